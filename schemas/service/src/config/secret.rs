//! Values that no output may show.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// What stands for a secret in every output.
pub const MASK: &str = "***";

/// A string that neither `Debug` nor serialization shows.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

/// Parts of a key's name that mark its value as a secret: those of librdkafka's settings (`sasl.password`,
/// `ssl.key.pem`, `ssl.keystore.password`, `sasl.oauthbearer.client.secret`, `sasl.jaas.config`), of registries
/// (`basic.auth.user.info`), and the common words.
const SECRET_PARTS: [&str; 12] = [
    "password",
    "passphrase",
    "passwd",
    "secret",
    "token",
    "credential",
    "private_key",
    "key_pem",
    "ssl_key",
    "jaas",
    "user_info",
    "authorization",
];

/// Ends of a key's name that make it the place of a secret, or a thing that is public, instead of the secret.
const PLACE_ENDS: [&str; 6] = ["_file", "_path", "_location", "_url", "_method", "_env"];

/// Whether the value of this key must not be shown. Dots, dashes and case do not matter.
pub fn is_secret(key: &str) -> bool {
    let plain: String = key
        .chars()
        .map(|character| if matches!(character, '.' | '-') { '_' } else { character.to_ascii_lowercase() })
        .collect();
    SECRET_PARTS.iter().any(|part| plain.contains(part)) && !PLACE_ENDS.iter().any(|end| plain.ends_with(end))
}

/// A copy of an address without the password in it: `https://user:***@registry:8081`.
pub fn without_password(address: &str) -> Option<String> {
    let (scheme, rest) = address.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (login, host) = authority.rsplit_once('@')?;
    let (user, _) = login.split_once(':')?;
    Some(format!("{scheme}://{user}:{MASK}@{host}{}", &rest[authority.len()..]))
}

/// Masks every secret of a configuration that is to be printed.
pub(super) fn mask(table: &mut toml::Table) {
    for (key, value) in table.iter_mut() {
        mask_value(is_secret(key), value);
    }
}

fn mask_value(secret: bool, value: &mut toml::Value) {
    match value {
        toml::Value::Table(table) if secret => {
            table.iter_mut().for_each(|(_, value)| mask_value(true, value))
        }
        toml::Value::Table(table) => mask(table),
        toml::Value::Array(items) => items.iter_mut().for_each(|item| mask_value(secret, item)),
        // An empty secret is shown as empty: that it is not set is what the reader looks for.
        toml::Value::String(text) if secret && !text.is_empty() => MASK.clone_into(text),
        toml::Value::String(text) => {
            if let Some(masked) = without_password(text) {
                *text = masked;
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_names() {
        for key in [
            "password",
            "sasl.password",
            "ssl.key.pem",
            "ssl.key.password",
            "ssl_key",
            "sasl.oauthbearer.client.secret",
            "basic.auth.user.info",
            "API-Token",
        ] {
            assert!(is_secret(key), "{key}");
        }
        for key in [
            "bootstrap",
            "ssl.key.location",
            "password_file",
            "sasl.oauthbearer.token.endpoint.url",
            "ssl.ca.pem",
        ] {
            assert!(!is_secret(key), "{key}");
        }
    }

    #[test]
    fn a_password_in_an_address_is_masked() {
        assert_eq!(without_password("https://me:pw@host:1/p?q").unwrap(), "https://me:***@host:1/p?q");
        assert_eq!(without_password("https://me:p@w@host").unwrap(), "https://me:***@host");
        assert_eq!(without_password("https://host/a:b@c"), None);
        assert_eq!(without_password("plain"), None);
    }

    #[test]
    fn a_secret_shows_in_no_output() {
        let secret = Secret::new("hidden");
        assert_eq!(format!("{secret:?}"), MASK);
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
        assert_eq!(secret.expose(), "hidden");
    }
}
