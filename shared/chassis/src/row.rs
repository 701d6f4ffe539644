//! Reading domain values from rows.

use std::str::FromStr;

use domain::{Amount, Currency};
use rust_decimal::Decimal;
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

/// Readers for the domain's own types; an unreadable value is a column error that names the column.
pub trait RowExt {
    /// A NUMERIC column that is summed or compared, not shown.
    fn number(&self, column: &str) -> Result<Amount, sqlx::Error>;
    /// A NUMERIC column, with the decimals of its currency (Postgres sends a zero without any).
    fn amount(&self, column: &str, currency: Currency) -> Result<Amount, sqlx::Error>;
    /// A text column that holds the text form of a type.
    fn parsed<T: FromStr<Err: std::fmt::Display>>(&self, column: &str) -> Result<T, sqlx::Error>;
    /// A text column that holds the serialised name of an enum.
    fn named<T: DeserializeOwned>(&self, column: &str) -> Result<T, sqlx::Error>;
    /// A jsonb column.
    fn json<T: DeserializeOwned + 'static>(&self, column: &str) -> Result<T, sqlx::Error>;
}

fn unreadable(column: &str, why: &dyn std::fmt::Display) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: why.to_string().into() }
}

impl RowExt for PgRow {
    fn number(&self, column: &str) -> Result<Amount, sqlx::Error> {
        self.try_get::<Decimal, _>(column).map(Amount::from_decimal)
    }
    fn amount(&self, column: &str, currency: Currency) -> Result<Amount, sqlx::Error> {
        self.number(column).map(|amount| amount + currency.zero())
    }
    fn parsed<T: FromStr<Err: std::fmt::Display>>(&self, column: &str) -> Result<T, sqlx::Error> {
        self.try_get::<&str, _>(column)?.parse().map_err(|error: T::Err| unreadable(column, &error))
    }
    fn named<T: DeserializeOwned>(&self, column: &str) -> Result<T, sqlx::Error> {
        let text: String = self.try_get(column)?;
        serde_json::from_value(serde_json::Value::String(text)).map_err(|error| unreadable(column, &error))
    }
    fn json<T: DeserializeOwned + 'static>(&self, column: &str) -> Result<T, sqlx::Error> {
        self.try_get::<sqlx::types::Json<T>, _>(column).map(|json| json.0)
    }
}

/// Ids in the order in which rows are locked, each once.
pub fn sorted_ids(ids: impl Iterator<Item = Uuid>) -> Vec<Uuid> {
    let mut ids: Vec<Uuid> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// One column of rows, for `unnest`.
pub fn column<'a, T, C>(rows: &'a [T], value: impl Fn(&'a T) -> C) -> Vec<C> {
    rows.iter().map(value).collect()
}

/// One NUMERIC column of rows, for `unnest`.
pub fn decimals<T>(rows: &[T], amount: impl Fn(&T) -> Amount) -> Vec<Decimal> {
    rows.iter().map(|row| amount(row).decimal()).collect()
}

/// The serialised name of an enum value, for a text column.
pub fn name<T: serde::Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        other => format!("{other:?}"),
    }
}
