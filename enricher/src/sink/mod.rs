//! Where the identity history goes. Events leave through the pipeline's transaction, see [`crate::transform`].

pub mod identities;
