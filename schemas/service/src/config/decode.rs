//! The tree to a service's own struct, through serde.
//!
//! A deserializer of our own, because the type that asks decides what the text of a variable means (`5` is a number
//! for a limit and a string for a password), and because an error must know the key and the place.

use std::fmt;
use std::str::FromStr;

use serde::de::value::StringDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};

use super::file;
use super::node::{Node, Origin, Table, Value};

/// What went wrong, and where.
#[derive(Debug)]
pub(super) struct DecodeError {
    /// The path, innermost key first.
    pub(super) reversed_path: Vec<String>,
    pub(super) origin: Option<Origin>,
    pub(super) problem: Problem,
}

/// What went wrong.
#[derive(Debug)]
pub(super) enum Problem {
    /// A key that the struct does not have.
    UnknownKey { known: &'static [&'static str] },
    /// A word that the enum does not have.
    UnknownWord { word: String, known: &'static [&'static str] },
    /// A key that must be there.
    MissingKey,
    /// A wrong type or value, in serde's or the type's words.
    Value(String),
}

impl DecodeError {
    fn new(problem: Problem) -> Self {
        Self { reversed_path: Vec::new(), origin: None, problem }
    }

    fn within(mut self, key: &str, origin: Option<&Origin>) -> Self {
        self.reversed_path.push(key.to_owned());
        self.origin = self.origin.or_else(|| origin.cloned());
        self
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.problem)
    }
}

impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Problem::Value(message.to_string()))
    }

    /// Serde's own words would show the value, which may be a secret in the wrong place: only its kind is told.
    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let found = match found {
            Unexpected::Str(_) => "a string".to_owned(),
            Unexpected::Bytes(_) => "bytes".to_owned(),
            Unexpected::Bool(_) => "a boolean".to_owned(),
            Unexpected::Unsigned(_) | Unexpected::Signed(_) => "a whole number".to_owned(),
            Unexpected::Float(_) => "a number with a fraction".to_owned(),
            Unexpected::Map => "a table".to_owned(),
            Unexpected::Seq => "a list".to_owned(),
            other => other.to_string(),
        };
        Self::new(Problem::Value(format!("expected {expected}, found {found}")))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        match found {
            Unexpected::Str(_) | Unexpected::Bytes(_) => Self::invalid_type(found, expected),
            _ => Self::new(Problem::Value(format!("expected {expected}, found {found}"))),
        }
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Self {
        Self::new(Problem::UnknownWord { word: word.to_owned(), known })
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Self::new(Problem::UnknownKey { known }).within(key, None)
    }

    fn missing_field(key: &'static str) -> Self {
        Self::new(Problem::MissingKey).within(key, None)
    }
}

fn expected(wanted: &str, found: &Value) -> DecodeError {
    let hint = match found {
        Value::Table(_) if wanted == "a string" => "; a key that has dots must be written in quotes",
        _ => "",
    };
    DecodeError::new(Problem::Value(format!("expected {wanted}, found {}{hint}", found.kind())))
}

impl Node {
    /// A number: as written, or as the text spells it.
    fn number<T: FromStr>(&self) -> Option<T> {
        match &self.value {
            Value::Text(text) => text.trim().replace('_', "").parse().ok(),
            _ => None,
        }
    }

    /// The whole number that is written here.
    fn whole(&self) -> Option<i64> {
        match self.value {
            Value::Integer(number) => Some(number),
            Value::Float(number) => whole(number),
            _ => None,
        }
    }

    /// The value that text spells where no type says what to expect, as for an untagged enum. Only what reads back as
    /// the same text becomes a number, so that a password of `0x1F` or `1_000` survives the way through a guess.
    fn guess(self) -> Value {
        let Value::Text(text) = self.value else { return self.value };
        let brackets = text.trim_start().starts_with(['[', '{']);
        match text.parse::<i64>() {
            Ok(number) if number.to_string() == text => Value::Integer(number),
            _ if text == "true" || text == "false" => Value::Boolean(text == "true"),
            _ if brackets => file::value(&text, self.origin.as_ref()).unwrap_or(Value::String(text)),
            _ => Value::String(text),
        }
    }
}

/// The whole number that a float is, if it is one: programs that write TOML from JSON (Helm's `toToml`) have no whole
/// numbers. Beyond 2⁵³ floats skip numbers, so there they do not count as whole.
fn whole(number: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let fits = number.fract() == 0.0 && number.abs() <= EXACT;
    fits.then(|| format!("{number:.0}").parse().ok())?
}

/// Text and strings alike; numbers and booleans as they would be written, since librdkafka's settings are all strings
/// but nobody writes them so.
fn string_of(value: Value) -> Result<String, DecodeError> {
    match value {
        Value::String(text) | Value::Text(text) => Ok(text),
        Value::Boolean(value) => Ok(value.to_string()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => {
            Ok(whole(number).map_or_else(|| number.to_string(), |number| number.to_string()))
        }
        found => Err(expected("a string", &found)),
    }
}

/// A list: of the tree, in TOML's brackets, or text between commas. Empty text is the empty list.
fn list_of(node: Node) -> Result<Vec<Node>, DecodeError> {
    let origin = node.origin;
    match node.value {
        Value::List(items) => Ok(items),
        Value::Text(text) if text.trim_start().starts_with('[') => {
            match file::value(&text, origin.as_ref()) {
                Some(Value::List(items)) => Ok(items),
                _ => Err(DecodeError::new(Problem::Value("a list in brackets that is not TOML".to_owned()))),
            }
        }
        Value::Text(text) if text.trim().is_empty() => Ok(Vec::new()),
        Value::Text(text) => Ok(text
            .split(',')
            .map(|item| Node { origin: origin.clone(), value: Value::Text(item.trim().to_owned()) })
            .collect()),
        found => Err(expected("a list", &found)),
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $type:ty, $wanted:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            match self.number::<$type>() {
                Some(number) => visitor.$visit(number),
                None => match (&self.value, self.whole()) {
                    (_, Some(number)) => visitor.visit_i64(number),
                    (Value::Float(number), None) => visitor.visit_f64(*number),
                    (found, None) => Err(expected($wanted, found)),
                },
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Node {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.guess() {
            Value::Boolean(value) => visitor.visit_bool(value),
            Value::Integer(number) => visitor.visit_i64(number),
            Value::Float(number) => match whole(number) {
                Some(number) => visitor.visit_i64(number),
                None => visitor.visit_f64(number),
            },
            Value::String(text) | Value::Text(text) => visitor.visit_string(text),
            Value::List(items) => visitor.visit_seq(Items::of(items)),
            Value::Table(table) => visitor.visit_map(Entries::of(table)),
        }
    }

    numbers! {
        deserialize_i8 visit_i64 i64, "a whole number";
        deserialize_i16 visit_i64 i64, "a whole number";
        deserialize_i32 visit_i64 i64, "a whole number";
        deserialize_i64 visit_i64 i64, "a whole number";
        deserialize_u8 visit_u64 u64, "a whole number, not negative";
        deserialize_u16 visit_u64 u64, "a whole number, not negative";
        deserialize_u32 visit_u64 u64, "a whole number, not negative";
        deserialize_u64 visit_u64 u64, "a whole number, not negative";
        deserialize_f32 visit_f64 f64, "a number";
        deserialize_f64 visit_f64 f64, "a number";
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.value {
            Value::Boolean(value) => visitor.visit_bool(*value),
            Value::Text(text) if text.trim() == "true" => visitor.visit_bool(true),
            Value::Text(text) if text.trim() == "false" => visitor.visit_bool(false),
            found => Err(expected("true or false", found)),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_string(string_of(self.value)?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    /// Empty text is the absent value, so that a variable can take back what the file sets.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.value {
            Value::Text(text) if text.is_empty() => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_seq(Items::of(list_of(self)?))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _length: usize, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let origin = self.origin;
        match self.value.into_table(origin.as_ref()) {
            Ok(table) => visitor.visit_map(Entries::of(table)),
            Err(found) => Err(expected("a table", &found)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _keys: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_map(visitor)
    }

    /// A word, or a table with the word as its only key.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let origin = self.origin.clone();
        match self.guess() {
            Value::String(word) | Value::Text(word) => visitor.visit_enum(Word { word, content: None }),
            Value::Table(table) if table.len() == 1 => match table.into_iter().next() {
                Some((word, content)) => visitor.visit_enum(Word { word, content: Some(content) }),
                None => Err(DecodeError::new(Problem::Value("an empty table".to_owned()))),
            },
            found => {
                let error = expected("a word, or a table with one key", &found);
                Err(DecodeError { origin, ..error })
            }
        }
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    serde::forward_to_deserialize_any! { i128 u128 char bytes byte_buf unit unit_struct tuple_struct ignored_any }
}

/// The items of a list; an error names the item by its number.
struct Items {
    items: std::vec::IntoIter<Node>,
    next: usize,
}

impl Items {
    fn of(items: Vec<Node>) -> Self {
        Self { items: items.into_iter(), next: 0 }
    }
}

impl<'de> SeqAccess<'de> for Items {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        let Some(node) = self.items.next() else { return Ok(None) };
        let number = self.next.to_string();
        self.next += 1;
        let origin = node.origin.clone();
        seed.deserialize(node).map(Some).map_err(|error| error.within(&number, origin.as_ref()))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

/// The entries of a table.
struct Entries {
    entries: std::collections::btree_map::IntoIter<String, Node>,
    pending: Option<(String, Node)>,
}

impl Entries {
    fn of(table: Table) -> Self {
        Self { entries: table.into_iter(), pending: None }
    }
}

impl<'de> MapAccess<'de> for Entries {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        let Some((key, node)) = self.entries.next() else { return Ok(None) };
        let deserializer: StringDeserializer<DecodeError> = key.clone().into_deserializer();
        let value = seed.deserialize(deserializer).map_err(|error| {
            // An unknown key is already in the path; another complaint about a key gets its name here.
            let origin = node.origin.clone();
            match error.problem {
                Problem::UnknownKey { .. } => DecodeError { origin, ..error },
                _ => error.within(&key, origin.as_ref()),
            }
        })?;
        self.pending = Some((key, node));
        Ok(Some(value))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, DecodeError> {
        let (key, node) = self.pending.take().ok_or_else(|| {
            DecodeError::new(Problem::Value("a value was asked for before its key".to_owned()))
        })?;
        let origin = node.origin.clone();
        seed.deserialize(node).map_err(|error| error.within(&key, origin.as_ref()))
    }
}

/// A word of an enum and its content.
struct Word {
    word: String,
    content: Option<Node>,
}

impl<'de> EnumAccess<'de> for Word {
    type Error = DecodeError;
    type Variant = Content;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Content), DecodeError> {
        let deserializer: StringDeserializer<DecodeError> = self.word.into_deserializer();
        Ok((seed.deserialize(deserializer)?, Content(self.content)))
    }
}

/// What follows the word of an enum.
struct Content(Option<Node>);

impl Content {
    fn required(self) -> Result<Node, DecodeError> {
        self.0.ok_or_else(|| {
            DecodeError::new(Problem::Value("this word needs a table of its own: { word = … }".to_owned()))
        })
    }
}

impl<'de> VariantAccess<'de> for Content {
    type Error = DecodeError;

    fn unit_variant(self) -> Result<(), DecodeError> {
        match self.0 {
            None => Ok(()),
            Some(_) => Err(DecodeError::new(Problem::Value("this word takes no table".to_owned()))),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, DecodeError> {
        seed.deserialize(self.required()?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _length: usize, visitor: V) -> Result<V::Value, DecodeError> {
        self.required()?.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _keys: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.required()?.deserialize_map(visitor)
    }
}
