//! Conditions in CEL over an API event.
//!
//! The fields of the event are the variables, under the names of the schema: `protocol == "http" &&
//! server.namespace == "shop" && http.response_status_code >= 500`. Absent values are `null`. `event` is the event as a
//! whole. A field is converted only when an expression asks for it, so that a rule that looks at the protocol first
//! costs little for all others.

use std::fmt;
use std::sync::{Arc, OnceLock};

use cel::common::ast::{EntryExpr, Expr, IdedExpr};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use cel::{Context, Env, Program, Value};
use wirecall_schemas::ApiEvent;

/// Why a condition cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// It is not CEL.
    #[error("{expression:?} is not a CEL expression: {cause}")]
    Syntax {
        /// The text.
        expression: String,
        /// What the parser says, in one line.
        cause: String,
    },
    /// It names something that an event does not have.
    #[error("{expression:?} uses {variable:?}, which is no field of an API event; the fields are {}", FIELDS.join(", "))]
    UnknownVariable {
        /// The text.
        expression: String,
        /// The name.
        variable: String,
    },
}

/// Why a condition has no answer for an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// A part of it does not fit the event: an operation on null, a missing key.
    #[error("the condition cannot be evaluated: {0}")]
    Failed(String),
    /// Its value is neither true nor false.
    #[error("the condition gives {0}, not true or false")]
    NotABoolean(&'static str),
}

/// A compiled condition.
pub struct Filter {
    expression: String,
    program: Program,
    environment: Arc<Env>,
}

impl fmt::Debug for Filter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Filter({:?})", self.expression)
    }
}

impl Filter {
    /// Compiles a condition.
    ///
    /// # Errors
    /// When the text is not CEL, or names what is not a field of an event.
    pub fn compile(expression: &str) -> Result<Self, FilterError> {
        let environment = Arc::new(Env::stdlib());
        let program = environment.compile(expression).map_err(|errors| FilterError::Syntax {
            expression: expression.to_owned(),
            cause: errors.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" "),
        })?;
        if let Some(variable) = unknown_variable(program.expression(), &mut Vec::new()) {
            return Err(FilterError::UnknownVariable { expression: expression.to_owned(), variable });
        }
        Ok(Self { expression: expression.to_owned(), program, environment })
    }

    /// The text it was compiled from.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// Whether the event fits.
    ///
    /// # Errors
    /// When the condition has no answer for this event, for example because it asks for a part of a null field.
    pub fn matches(&self, event: &ApiEvent) -> Result<bool, EvaluationError> {
        self.matches_fields(&Fields::of(event))
    }

    /// As [`matches`](Self::matches), sharing converted fields with other conditions on the same event.
    pub(crate) fn matches_fields(&self, fields: &Fields<'_>) -> Result<bool, EvaluationError> {
        let mut context = Context::with_env(Arc::clone(&self.environment));
        context.set_variable_resolver(fields);
        match self.program.execute(&context) {
            Ok(Value::Bool(answer)) => Ok(answer),
            Ok(Value::Null) => Err(EvaluationError::NotABoolean("null")),
            Ok(_) => Err(EvaluationError::NotABoolean("another type")),
            Err(error) => Err(EvaluationError::Failed(error.to_string())),
        }
    }
}

/// The event's fields as CEL values, each converted when it is first asked for.
pub(crate) struct Fields<'e> {
    event: &'e ApiEvent,
    converted: [OnceLock<Option<Box<dyn Val>>>; FIELDS.len()],
}

impl<'e> Fields<'e> {
    pub(crate) fn of(event: &'e ApiEvent) -> Self {
        Self { event, converted: [const { OnceLock::new() }; FIELDS.len()] }
    }
}

impl VariableResolver for Fields<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let place = FIELDS.iter().position(|field| *field == variable)?;
        let value = self.converted.get(place)?.get_or_init(|| {
            let value = field_value(self.event, variable)?;
            Box::<dyn Val>::try_from(value).ok()
        });
        value.as_deref().map(CowVal::from)
    }
}

/// Generates the list of fields and the conversion of each from one list of names.
macro_rules! fields {
    ($($field:ident),* $(,)?) => {
        /// The names that a condition can use.
        const FIELDS: &[&str] = &[$(stringify!($field),)* "event"];

        fn field_value(event: &ApiEvent, name: &str) -> Option<Value> {
            match name {
                $(stringify!($field) => cel::to_value(&event.$field).ok(),)*
                "event" => cel::to_value(event).ok(),
                _ => None,
            }
        }
    };
}

fields!(
    call_id,
    connection_id,
    index,
    protocol,
    protocol_version,
    transport,
    client,
    server,
    operation,
    target,
    status,
    status_class,
    completeness,
    completeness_cause,
    start_time,
    end_time,
    request,
    response,
    http,
    connection,
    trace,
    findings,
    ledger,
    vantages,
    provenance,
    redactions,
    identity_watermark,
);

/// Names that CEL itself gives to types.
const TYPES: [&str; 12] = [
    "bool",
    "bytes",
    "double",
    "dyn",
    "int",
    "list",
    "map",
    "null_type",
    "optional",
    "string",
    "type",
    "uint",
];

/// The first variable that neither an event has nor a macro (`all`, `exists`, `map`) binds.
fn unknown_variable(expression: &IdedExpr, bound: &mut Vec<String>) -> Option<String> {
    match &expression.expr {
        Expr::Ident(name) => {
            let known = name.starts_with('@')
                || FIELDS.contains(&name.as_str())
                || TYPES.contains(&name.as_str())
                || bound.iter().any(|other| other == name);
            (!known).then(|| name.clone())
        }
        Expr::Call(call) => call
            .target
            .iter()
            .map(AsRef::as_ref)
            .chain(&call.args)
            .find_map(|part| unknown_variable(part, bound)),
        Expr::Select(select) => unknown_variable(&select.operand, bound),
        Expr::List(list) => list.elements.iter().find_map(|part| unknown_variable(part, bound)),
        Expr::Map(map) => map.entries.iter().find_map(|entry| unknown_in_entry(&entry.expr, bound)),
        Expr::Struct(object) => object.entries.iter().find_map(|entry| unknown_in_entry(&entry.expr, bound)),
        Expr::Comprehension(comprehension) => {
            let outer = bound.len();
            if let Some(name) = unknown_variable(&comprehension.iter_range, bound) {
                return Some(name);
            }
            bound.push(comprehension.iter_var.clone());
            bound.extend(comprehension.iter_var2.clone());
            bound.push(comprehension.accu_var.clone());
            let parts = [
                &comprehension.accu_init,
                &comprehension.loop_cond,
                &comprehension.loop_step,
                &comprehension.result,
            ];
            let unknown = parts.into_iter().find_map(|part| unknown_variable(part, bound));
            bound.truncate(outer);
            unknown
        }
        Expr::Literal(_) | Expr::Unspecified => None,
    }
}

fn unknown_in_entry(entry: &EntryExpr, bound: &mut Vec<String>) -> Option<String> {
    match entry {
        EntryExpr::StructField(field) => unknown_variable(&field.value, bound),
        EntryExpr::MapEntry(entry) => {
            unknown_variable(&entry.key, bound).or_else(|| unknown_variable(&entry.value, bound))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::event;

    fn example() -> ApiEvent {
        let mut event = event("http");
        event.server.namespace = Some("shop".into());
        event.server.labels = [("app".to_owned(), "web".to_owned())].into();
        event.status = Some("503".into());
        event.http = Some(wirecall_schemas::Http {
            response_status_code: Some(503),
            ..wirecall_schemas::Http::default()
        });
        event
    }

    #[test]
    fn conditions_see_the_event_by_its_field_names() {
        for (expression, expected) in [
            ("true", true),
            ("protocol == 'http'", true),
            ("protocol == 'redis' || server.namespace == 'shop'", true),
            ("client.namespace == 'shop'", false),
            ("client.namespace == null", true),
            ("http.response_status_code >= 500", true),
            ("server.labels.app == 'web'", true),
            ("'app' in server.labels && !('app' in client.labels)", true),
            ("server.labels.exists(name, name.startsWith('a'))", true),
            ("server.address == '10.1.0.2' && server.port == 8080", true),
            ("completeness == 'matched' && server.certainty == 'unknown'", true),
            ("event.protocol == protocol", true),
            ("timestamp(start_time) > timestamp('2025-01-01T00:00:00Z')", true),
            ("findings.size() == 0", true),
            ("type(index) == int", true),
            ("status.matches('^5..$')", true),
        ] {
            let filter = Filter::compile(expression).unwrap();
            assert_eq!(filter.matches(&example()), Ok(expected), "{expression}");
        }
    }

    #[test]
    fn a_condition_without_an_answer_is_an_error_and_not_a_panic() {
        for expression in
            ["trace.trace_id == 'x'", "target.startsWith('/')", "'text'", "index / 0 == 1", "null"]
        {
            assert!(Filter::compile(expression).unwrap().matches(&example()).is_err(), "{expression}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused_at_once() {
        assert!(matches!(Filter::compile("protocol =="), Err(FilterError::Syntax { .. })));
        for (expression, name) in
            [("protokol == 'http'", "protokol"), ("findings.all(f, g.code == 'x')", "g"), ("[{'a': b}]", "b")]
        {
            let error = Filter::compile(expression).unwrap_err();
            assert!(
                matches!(&error, FilterError::UnknownVariable { variable, .. } if variable == name),
                "{error}"
            );
            assert!(error.to_string().contains("protocol, "), "{error}");
        }
    }

    #[test]
    fn the_names_are_those_of_the_event() {
        let json = serde_json::to_value(example()).unwrap();
        let mut names: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
        names.push("event");
        names.sort_unstable();
        let mut known = FIELDS.to_vec();
        known.sort_unstable();
        assert_eq!(known, names);
    }
}
