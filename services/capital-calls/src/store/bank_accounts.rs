//! Accounts of funds, who pays from which account and under which name, and how banks' files are read.

use std::collections::HashMap;

use ::domain::messages::capital_calls::{BankAccount, ColumnMapSaved};
use chassis::row::column;
use chassis::{Fault, RowExt, Tx};
use sqlx::postgres::PgRow;
use sqlx::{Error, Row};
use uuid::Uuid;

fn account(row: &PgRow) -> Result<BankAccount, Error> {
    Ok(BankAccount {
        fund_id: row.try_get("fund_id")?,
        account: row.try_get("account")?,
        currency: row.parsed("currency")?,
        registered_by: row.try_get("registered_by")?,
        registered_at: row.try_get("registered_at")?,
        closed_by: row.try_get("closed_by")?,
        closed_at: row.try_get("closed_at")?,
    })
}

/// Registers accounts, each with its key, that are not open; returns them all as they are registered.
pub async fn register_accounts(tx: &mut Tx, accounts: &[(String, BankAccount)]) -> Result<HashMap<String, BankAccount>, Fault> {
    sqlx::query(
        "insert into bank_accounts (account_key, account, fund_id, currency, registered_by, registered_at)
         select distinct on (account_key) *
         from unnest($1::text[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::timestamptz[])
              as new (account_key, account, fund_id, currency, registered_by, registered_at)
         on conflict (account_key) do update
         set fund_id = excluded.fund_id, currency = excluded.currency, registered_by = excluded.registered_by,
             registered_at = excluded.registered_at, closed_by = null, closed_at = null
         where bank_accounts.closed_at is not null",
    )
    .bind(column(accounts, |(key, _)| key.as_str()))
    .bind(column(accounts, |(_, account)| account.account.as_str()))
    .bind(column(accounts, |(_, account)| account.fund_id))
    .bind(column(accounts, |(_, account)| account.currency.code()))
    .bind(column(accounts, |(_, account)| account.registered_by.as_str()))
    .bind(column(accounts, |(_, account)| account.registered_at))
    .execute(&mut **tx)
    .await?;
    find_accounts(tx, &column(accounts, |(key, _)| key.clone())).await
}

/// Accounts by their keys.
pub async fn find_accounts(tx: &mut Tx, keys: &[String]) -> Result<HashMap<String, BankAccount>, Fault> {
    let accounts = sqlx::query("select * from bank_accounts where account_key = any($1)")
        .bind(keys)
        .try_map(|row| Ok((row.try_get("account_key")?, account(&row)?)))
        .fetch_all(&mut **tx)
        .await?;
    Ok(accounts.into_iter().collect())
}

/// Writes that accounts, each with its key, are closed; one that is another fund's by now stays open.
pub async fn close_accounts(tx: &mut Tx, accounts: &[(String, BankAccount)]) -> Result<(), Fault> {
    sqlx::query(
        "update bank_accounts set closed_by = closed.closed_by, closed_at = closed.closed_at
         from unnest($1::text[], $2::uuid[], $3::text[], $4::timestamptz[]) as closed (account_key, fund_id, closed_by, closed_at)
         where bank_accounts.account_key = closed.account_key and bank_accounts.fund_id = closed.fund_id",
    )
    .bind(column(accounts, |(key, _)| key.as_str()))
    .bind(column(accounts, |(_, account)| account.fund_id))
    .bind(column(accounts, |(_, account)| account.closed_by.as_deref()))
    .bind(column(accounts, |(_, account)| account.closed_at))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Accounts of a fund.
pub async fn accounts_of_fund(tx: &mut Tx, fund_id: Uuid) -> Result<Vec<BankAccount>, Fault> {
    let accounts = sqlx::query("select * from bank_accounts where fund_id = $1 order by account")
        .bind(fund_id)
        .try_map(|row| account(&row))
        .fetch_all(&mut **tx)
        .await?;
    Ok(accounts)
}

/// The investors who pay from the accounts with these keys, by key and fund.
pub async fn payers(tx: &mut Tx, keys: &[String]) -> Result<HashMap<(String, Uuid), Uuid>, Fault> {
    let payers: Vec<(String, Uuid, Uuid)> =
        sqlx::query_as("select account_key, fund_id, investor_id from payer_accounts where account_key = any($1)")
            .bind(keys)
            .fetch_all(&mut **tx)
            .await?;
    Ok(payers.into_iter().map(|(key, fund_id, investor_id)| ((key, fund_id), investor_id)).collect())
}

/// Remembers from which account an investor pays.
pub async fn remember_payer(tx: &mut Tx, account_key: &str, fund_id: Uuid, investor_id: Uuid, confirmed_by: &str) -> Result<(), Fault> {
    let now = tx.now();
    sqlx::query(
        "insert into payer_accounts (account_key, fund_id, investor_id, confirmed_by, confirmed_at) values ($1, $2, $3, $4, $5)
         on conflict (account_key, fund_id) do update
         set investor_id = excluded.investor_id, confirmed_by = excluded.confirmed_by, confirmed_at = excluded.confirmed_at",
    )
    .bind(account_key)
    .bind(fund_id)
    .bind(investor_id)
    .bind(confirmed_by)
    .bind(now)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The investors who pay under these names, by name and fund.
pub async fn aliases(tx: &mut Tx, names: &[String]) -> Result<HashMap<(String, Uuid), Vec<Uuid>>, Fault> {
    let mut aliases: HashMap<(String, Uuid), Vec<Uuid>> = HashMap::new();
    if names.is_empty() {
        return Ok(aliases);
    }
    let known: Vec<(String, Uuid, Uuid)> = sqlx::query_as("select name, fund_id, investor_id from payer_aliases where name = any($1)")
        .bind(names)
        .fetch_all(&mut **tx)
        .await?;
    for (name, fund_id, investor_id) in known {
        aliases.entry((name, fund_id)).or_default().push(investor_id);
    }
    Ok(aliases)
}

/// Remembers under which name an investor pays; several may pay under one.
pub async fn remember_alias(tx: &mut Tx, name: &str, fund_id: Uuid, investor_id: Uuid, confirmed_by: &str) -> Result<(), Fault> {
    let now = tx.now();
    sqlx::query(
        "insert into payer_aliases (name, fund_id, investor_id, confirmed_by, confirmed_at) values ($1, $2, $3, $4, $5)
         on conflict do nothing",
    )
    .bind(name)
    .bind(fund_id)
    .bind(investor_id)
    .bind(confirmed_by)
    .bind(now)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Forgets from which account, with its key, and under which name somebody pays a fund.
pub async fn forget_payer(tx: &mut Tx, account_key: Option<&str>, name: Option<&str>, fund_id: Option<Uuid>) -> Result<(), Fault> {
    sqlx::query("delete from payer_accounts where account_key = $1 and fund_id = $2")
        .bind(account_key)
        .bind(fund_id)
        .execute(&mut **tx)
        .await?;
    sqlx::query("delete from payer_aliases where name = $1 and fund_id = $2").bind(name).bind(fund_id).execute(&mut **tx).await?;
    Ok(())
}

fn map(row: &PgRow) -> Result<ColumnMapSaved, Error> {
    Ok(ColumnMapSaved {
        name: row.try_get("name")?,
        map: row.json("map")?,
        saved_by: row.try_get("saved_by")?,
        saved_at: row.try_get("saved_at")?,
    })
}

/// Saves a map.
pub async fn save_map(tx: &mut Tx, map: &ColumnMapSaved) -> Result<(), Fault> {
    sqlx::query(
        "insert into column_maps (name, map, saved_by, saved_at) values ($1, $2, $3, $4)
         on conflict (name) do update set map = excluded.map, saved_by = excluded.saved_by, saved_at = excluded.saved_at",
    )
    .bind(&map.name)
    .bind(&map.map)
    .bind(&map.saved_by)
    .bind(map.saved_at)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The maps, by name.
pub async fn maps(tx: &mut Tx) -> Result<Vec<ColumnMapSaved>, Fault> {
    Ok(sqlx::query("select * from column_maps order by name").try_map(|row| map(&row)).fetch_all(&mut **tx).await?)
}
