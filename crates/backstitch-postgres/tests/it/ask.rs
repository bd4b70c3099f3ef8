//! What does the server itself say?

use backstitch_postgres::Running;
use sqlx::Connection;
use sqlx::postgres::PgConnection;

pub async fn setting(server: &Running, name: &str) -> String {
    sqlx::query_scalar("select current_setting($1)")
        .bind(name)
        .fetch_one(&mut connect(server).await)
        .await
        .unwrap()
}

pub async fn connect(server: &Running) -> PgConnection {
    PgConnection::connect_with(&server.connect_options("postgres")).await.unwrap()
}
