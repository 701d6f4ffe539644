//! Conditions that a firm writes itself: expressions in CEL over what is known of a request, with amounts in integer minor units.
//!
//! They are checked when they are saved: each name and each type. There are no loops, no lists but those written out, no floats and no
//! patterns, so that each takes time in proportion to its length, which is bounded. What cannot be evaluated does not hold.

use cel::common::ast::{Expr, LiteralValue};
use cel::parser::PrattParser;
use cel::{Context, IdedExpr, Value};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::messages::capital_calls::Priority;
use crate::messages::workflow::SubjectKind;
use crate::money::{Amount, Currency};
use crate::rejection::{Reason, Rejection, check_text};

/// Most characters of an expression: a dozen conditions.
const EXPRESSION_CHARACTERS_MAX: usize = 500;
/// Deepest nesting, of brackets and of operators in each other: reading and evaluating go as deep, and a thread's stack must do for it.
const DEPTH_MAX: u16 = 16;
/// Most characters of a message.
const MESSAGE_CHARACTERS_MAX: usize = 300;

/// A condition, and what is said when it does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Predicate {
    /// What must hold, in CEL; at most 500 characters.
    pub expression: String,
    /// What the requester is told when it does not.
    pub message: String,
}

/// What is known of a request when a condition is looked at. The names of the fields are those of the expression's variables.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// `kind`: `allocation`, `capital_call`, `refund`, `withdrawal` or `bank_details`.
    pub kind: SubjectKind,
    /// `amount`: in minor units of the currency (USD cents), an integer.
    pub amount: Amount,
    /// `currency`: ISO 4217, three capital letters.
    pub currency: Currency,
    /// `fund_type`: of the fund.
    pub fund_type: &'a str,
    /// `security_type`: of an allocation; empty else.
    pub security_type: &'a str,
    /// `priority`: `normal`, `high` or `urgent`.
    pub priority: Priority,
    /// `requested_by`: the user who asked.
    pub requested_by: &'a str,
    /// `amendment`: the number of a call's amendment; 0 for what is asked for the first time.
    pub amendment: i32,
}

/// The types of expressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Integer,
    Text,
    Truth,
}

/// The variables, with their types.
const VARIABLES: [(&str, Type); 8] = [
    ("kind", Type::Text),
    ("amount", Type::Integer),
    ("currency", Type::Text),
    ("fund_type", Type::Text),
    ("security_type", Type::Text),
    ("priority", Type::Text),
    ("requested_by", Type::Text),
    ("amendment", Type::Integer),
];

impl Predicate {
    /// The expression, if it is true or false.
    fn compiled(&self) -> Result<IdedExpr, String> {
        let length = self.expression.chars().count();
        if length > EXPRESSION_CHARACTERS_MAX {
            return Err(format!("it has {length} characters, at most {EXPRESSION_CHARACTERS_MAX} are read"));
        }
        // not the parser that the library takes by itself: a few brackets end the process by that one's use of the stack
        let parser = PrattParser::new().max_recursion_depth(DEPTH_MAX);
        let expression = parser.parse(&self.expression).map_err(|errors| errors.to_string())?;
        match type_of(&expression, 0)? {
            Type::Truth => Ok(expression),
            other => Err(format!("it is {other:?}, not true or false")),
        }
    }

    /// Refuses what cannot be read, names what is not known, or compares what cannot be compared.
    ///
    /// # Errors
    /// `invalid_rules`, with the name of the field.
    pub fn check(&self, field: &str) -> Result<(), Rejection> {
        let refuse = |why: String| Err(Reason::InvalidRules.with(format!("{field}: {why}")));
        if let Err(rejection) = check_text("message", &self.message, MESSAGE_CHARACTERS_MAX) {
            return refuse(rejection.detail);
        }
        self.compiled().map(drop).or_else(refuse)
    }

    /// Whether it holds of a request; what cannot be evaluated, as a sum that is too large, does not.
    pub fn holds(&self, facts: &Facts<'_>) -> bool {
        let Ok(expression) = self.compiled() else { return false };
        let Ok(amount) = i64::try_from(facts.amount.minor(facts.currency)) else { return false };
        let mut context = Context::default();
        let given = [
            context.add_variable("kind", name(&facts.kind)).is_ok(),
            context.add_variable("amount", amount).is_ok(),
            context.add_variable("currency", facts.currency.code()).is_ok(),
            context.add_variable("fund_type", facts.fund_type).is_ok(),
            context.add_variable("security_type", facts.security_type).is_ok(),
            context.add_variable("priority", name(&facts.priority)).is_ok(),
            context.add_variable("requested_by", facts.requested_by).is_ok(),
            context.add_variable("amendment", i64::from(facts.amendment)).is_ok(),
        ];
        given.into_iter().all(|given| given) && context.resolve(&expression) == Ok(Value::Bool(true))
    }
}

/// The name of a value on the wire.
fn name(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The type of an expression, or why it has none.
fn type_of(expression: &IdedExpr, depth: u16) -> Result<Type, String> {
    if depth > DEPTH_MAX {
        return Err(format!("it is nested more than {DEPTH_MAX} deep"));
    }
    match &expression.expr {
        Expr::Ident(name) => match VARIABLES.iter().find(|(known, _)| known == name) {
            Some((_, of)) => Ok(*of),
            None => {
                let known: Vec<&str> = VARIABLES.iter().map(|(name, _)| *name).collect();
                Err(format!("there is no {name}; there are {}", known.join(", ")))
            }
        },
        Expr::Literal(LiteralValue::Boolean(_)) => Ok(Type::Truth),
        Expr::Literal(LiteralValue::Int(_)) => Ok(Type::Integer),
        Expr::Literal(LiteralValue::String(_)) => Ok(Type::Text),
        Expr::Literal(_) => Err("only integers, texts, true and false may be written; amounts are in minor units".into()),
        Expr::Call(call) => {
            let target = call.target.iter().map(|target| &**target);
            type_of_call(&call.func_name, &target.chain(&call.args).collect::<Vec<_>>(), depth + 1)
        }
        _ => {
            Err("it has more than variables, values, comparisons, && || ! ?: + - * / %, in, and size, startsWith, endsWith, contains"
                .into())
        }
    }
}

fn type_of_call(name: &str, arguments: &[&IdedExpr], depth: u16) -> Result<Type, String> {
    use Type::{Integer, Text, Truth};
    if let ("@in", [item, list]) = (name, arguments) {
        let Expr::List(list) = &list.expr else { return Err("in needs a list that is written out: currency in [\"USD\", \"EUR\"]".into()) };
        let wanted = type_of(item, depth)?;
        return match list.elements.iter().map(|element| type_of(element, depth)).find(|found| *found != Ok(wanted)) {
            None => Ok(Truth),
            Some(other) => Err(format!("in looks for {wanted:?} among {:?}", other?)),
        };
    }
    let types: Vec<Type> = arguments.iter().map(|argument| type_of(argument, depth)).collect::<Result<_, _>>()?;
    match (name, types.as_slice()) {
        ("_&&_" | "_||_", [Truth, ..]) if types.iter().all(|of| *of == Truth) => Ok(Truth),
        ("!_", [Truth]) => Ok(Truth),
        ("_?_:_", [Truth, one, other]) if one == other => Ok(*one),
        ("_==_" | "_!=_", [one, other]) if one == other => Ok(Truth),
        ("_<_" | "_<=_" | "_>_" | "_>=_", [Integer, Integer] | [Text, Text]) => Ok(Truth),
        ("_+_" | "_-_" | "_*_" | "_/_" | "_%_", [Integer, Integer]) | ("-_", [Integer]) | ("size", [Text]) => Ok(Integer),
        ("startsWith" | "endsWith" | "contains", [Text, Text]) => Ok(Truth),
        _ => Err(format!("{name} is not for {types:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn predicate(expression: &str) -> Predicate {
        Predicate { expression: expression.into(), message: "it must".into() }
    }

    fn facts(amount: &str) -> Facts<'static> {
        Facts {
            kind: SubjectKind::Allocation,
            amount: amount.parse().unwrap(),
            currency: "USD".parse().unwrap(),
            fund_type: "buyout",
            security_type: "equity",
            priority: Priority::High,
            requested_by: "mia",
            amendment: 0,
        }
    }

    #[test]
    fn conditions_hold_or_not_by_what_is_known_of_the_request() {
        for (expression, expected) in [
            ("amount >= 500000", true),
            ("amount > 500000", false),
            ("amount % 100000 == 0 && currency == \"USD\"", true),
            ("currency in [\"EUR\", \"GBP\"] || fund_type.startsWith(\"buy\")", true),
            ("kind == \"refund\" ? amount < 10 : priority != \"urgent\"", true),
            ("!(security_type.contains(\"equi\"))", false),
            ("size(requested_by) == 3 && amendment == 0", true),
            ("-amount + 2 * 250000 == 0", true),
            ("true", true),
            // fail closed: a division by zero, a sum that is too large
            ("amount / (amendment * 1) > 0", false),
            ("amount * 9223372036854775807 != 1", false),
        ] {
            let predicate = predicate(expression);
            assert_eq!(predicate.check("p"), Ok(()), "{expression}");
            assert_eq!(predicate.holds(&facts("5000.00")), expected, "{expression}");
        }
        assert!(!predicate("amount > 0").holds(&facts("99999999999999999999.00")), "an amount that is too large");
    }

    #[test]
    fn what_has_unknown_names_wrong_types_or_no_bounds_is_refused_when_it_is_saved() {
        for (expression, named) in [
            ("amout > 1", "amout"),
            ("amount > 1.5", "minor units"),
            ("amount > \"1\"", "_>_"),
            ("amount", "Integer"),
            ("amount + currency == 1", "_+_"),
            ("currency + \"x\" == \"USDx\"", "_+_"),
            ("amount > 1 &&", ""),
            ("amount > 1 amount > 2", ""),
            ("[1, 2].exists(n, n > 1)", "more than"),
            ("amount in [\"1\"]", "in looks for"),
            ("amount in currency", "list"),
            ("{\"a\": 1}.a == 1", "more than"),
            ("duration(\"1h\") > duration(\"2h\")", "duration"),
            ("fund.size > 1", "more than"),
            ("requested_by.matches(\"(a+)+$\")", "matches"),
            ("", ""),
        ] {
            let refused = predicate(expression).check("predicates: p").unwrap_err();
            assert_eq!(refused.reason, Reason::InvalidRules);
            assert!(refused.detail.contains(named), "{expression}: {}", refused.detail);
            assert!(!predicate(expression).holds(&facts("5000.00")), "{expression} holds");
        }
        let long = format!("amount > 0 && {}", "amount > 1 && ".repeat(60));
        assert!(predicate(&long).check("p").is_err());
        assert!(predicate(&format!("1{} > 0", " + 1".repeat(25))).check("p").unwrap_err().detail.contains("deep"));
        assert!(Predicate { message: String::new(), ..predicate("true") }.check("p").is_err());
    }

    #[test]
    fn what_is_as_deep_as_it_may_be_needs_little_of_the_stack() {
        let deep = [
            format!("{}amount > 0{}", "(".repeat(240), ")".repeat(240)),
            format!("{}true", "true ? true : ".repeat(35)),
            format!("{}true", "!".repeat(496)),
            format!("amount > {}1", "-".repeat(490)),
            format!("amount > 0{}", " || true".repeat(60)),
            format!("1{} > 0", " + 1".repeat(120)),
            format!("1{} > 0", " + 1".repeat(14)),
            format!("true{}", " == true".repeat(14)),
            format!("{}1{} > 0", "(1 + ".repeat(14), ")".repeat(14)),
            format!("{}1{} > 0", "(1 + ".repeat(90), ")".repeat(90)),
            format!("{}requested_by{} > 0", "size(".repeat(60), ")".repeat(60)),
            format!("{}1{} == 1", "[".repeat(200), "]".repeat(200)),
        ];
        // half of what a thread of the services has, without optimisation
        let small = std::thread::Builder::new().stack_size(1024 * 1024);
        small
            .spawn(move || deep.iter().for_each(|text| drop((predicate(text).check("p"), predicate(text).holds(&facts("1.00"))))))
            .unwrap()
            .join()
            .unwrap();
    }
}
