//! The built-in rules. They apply to headers, parameters, cookies and JSON keys alike: services log and echo their
//! headers as JSON, and pass in the query what others pass in a header.

use super::rule::{Action, RedactionRule};
use crate::glob::Glob;

/// Rules that follow the own ones unless they are switched off.
pub(crate) fn rules() -> impl Iterator<Item = RedactionRule> {
    [
        ("credentials", CREDENTIALS),
        ("cookies", COOKIES),
        ("api-keys", KEYS),
        ("passwords", PASSWORDS),
        ("tokens", TOKENS),
    ]
    .into_iter()
    .map(|(name, patterns)| RedactionRule {
        name: name.to_owned(),
        action: Action::Mask,
        names: patterns.iter().copied().map(Glob::new).collect(),
        paths: Vec::new(),
        protocols: Vec::new(),
        namespaces: Vec::new(),
    })
}

const CREDENTIALS: &[&str] =
    &["*authorization", "authentication", "*credential*", "basic_auth", "basicauth", "userinfo"];

const COOKIES: &[&str] = &[
    "cookie",
    "cookie2",
    "cookies",
    "set-cookie",
    "set-cookie2",
    "*session-id",
    "*session_id",
    "*sessionid",
    "phpsessid",
];

const KEYS: &[&str] = &[
    "*api-key",
    "*api_key",
    "*apikey",
    "*access-key",
    "*access_key",
    "*accesskey",
    "*account-key",
    "*account_key",
    "*accountkey",
    "*private-key",
    "*private_key",
    "*privatekey",
    "*signing-key",
    "*signing_key",
    "*signingkey",
    "*encryption-key",
    "*encryption_key",
    "*encryptionkey",
    "*subscription-key",
    "*functions-key",
    "*auth-key",
    "*auth_key",
    "*authkey",
];

const PASSWORDS: &[&str] = &[
    "*password*",
    "*passwd*",
    "*passphrase*",
    "*passcode*",
    "pass",
    "*_pass",
    "*-pass",
    "pwd",
    "*_pwd",
    "*-pwd",
    "*userpwd",
    "otp",
    "*_otp",
    "*passwort*",
];

/// `*token` and not `*token*`: `max_tokens` and `token_type` are no secrets. Signatures of signed links are as good as
/// a password while they last.
const TOKENS: &[&str] = &[
    "*token",
    "*secret*",
    "jwt",
    "*_jwt",
    "*-jwt",
    "sig",
    "*signature*",
    "assertion",
    "client_assertion",
    "samlresponse",
    "samlrequest",
    "code_verifier",
    "*csrf*",
    "*xsrf*",
];
