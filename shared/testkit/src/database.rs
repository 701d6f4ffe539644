//! Databases: roles and schemas for the services, and a fresh copy of all of them for each test.

use sqlx::{Connection, PgConnection};

use crate::root;

/// Environment variable with the address of the test run's server, set by `cargo xtask test`.
pub const TEST_SERVER: &str = "TRANCHE_TEST_DATABASE";
/// The database that tests copy.
pub const TEMPLATE: &str = "tranche_template";

/// A Postgres schema has its service's name in snake_case.
pub fn schema_of(service: &str) -> String {
    service.replace('-', "_")
}

async fn run(url: &str, sql: String) -> Result<(), String> {
    let mut connection = PgConnection::connect(url).await.map_err(|error| format!("database: {error}"))?;
    sqlx::raw_sql(&sql).execute(&mut connection).await.map_err(|error| format!("database: {error}"))?;
    connection.close().await.map_err(|error| format!("database: {error}"))
}

/// Creates a database unless it is there.
pub async fn create(server: &str, name: &str) -> Result<(), String> {
    match run(server, format!("create database {name}")).await {
        Err(error) if error.contains("already exists") => Ok(()),
        done => done,
    }
}

/// Creates the schemas and roles of all services.
pub async fn provision(database: &str, password: &str) -> Result<(), String> {
    let file = root().join("deploy/postgres/roles.sql");
    let sql = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    run(database, sql.replace(":password", &format!("'{password}'"))).await
}

/// Copies the migrated template to a database of this name.
pub async fn copy_template(server: &str, name: &str) -> Result<(), String> {
    run(server, format!("create database {name} template {TEMPLATE}")).await
}

/// Removes a database and whoever is connected to it.
pub async fn drop(server: &str, name: &str) -> Result<(), String> {
    run(server, format!("drop database if exists {name} with (force)")).await
}

/// The address of another database, or another user, on the same server.
pub fn address(url: &str, user: &str, database: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("postgres", url));
    let (credentials, host) = rest.split_once('@').unwrap_or(("", rest));
    let password = credentials.split_once(':').map_or("", |(_, password)| password);
    let host = host.split('/').next().unwrap_or(host);
    format!("{scheme}://{user}:{password}@{host}/{database}")
}

/// A fresh database with every service's schema, for a test of one service's store. Returns the
/// address for the service's own role.
pub async fn fresh(service: &str) -> String {
    let server = std::env::var(TEST_SERVER).unwrap_or_else(|_| panic!("{TEST_SERVER} is not set: run the tests with `cargo xtask test`"));
    let name = format!("t_{}", uuid::Uuid::now_v7().simple());
    copy_template(&server, &name).await.unwrap_or_else(|error| panic!("{error}"));
    address(&server, &schema_of(service), &name)
}
