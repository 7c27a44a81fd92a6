//! Record numbers per partition, from 0 and without holes: a consumer that finds a hole knows that records are missing.

use wirecall_schemas::ConnectionKey;
use wirecall_schemas::topic::partition_of;

/// See the module.
#[derive(Debug)]
pub(crate) struct Sequences {
    next: Vec<i64>,
}

impl Sequences {
    /// One counter a partition; a number that is not positive is taken as 1.
    pub(crate) fn new(partitions: i32) -> Self {
        Self { next: vec![0; usize::try_from(partitions).unwrap_or(1).max(1)] }
    }

    /// The partition of a connection.
    pub(crate) fn partition(&self, key: &ConnectionKey) -> i32 {
        partition_of(key.as_bytes(), i32::try_from(self.next.len()).unwrap_or(1))
    }

    /// The number of the next record of a partition.
    pub(crate) fn take(&mut self, partition: i32) -> i64 {
        let next = usize::try_from(partition).ok().and_then(|index| self.next.get_mut(index));
        next.map_or(0, |next| {
            let number = *next;
            *next += 1;
            number
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_partition_counts_alone() {
        let mut sequences = Sequences::new(2);
        assert_eq!([sequences.take(0), sequences.take(1), sequences.take(0)], [0, 0, 1]);
    }

    #[test]
    fn no_partitions_are_one() {
        let mut sequences = Sequences::new(-3);
        assert_eq!(sequences.partition(&ConnectionKey::new([1; 8])), 0);
        assert_eq!([sequences.take(0), sequences.take(0)], [0, 1]);
    }
}
