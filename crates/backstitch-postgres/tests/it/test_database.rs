//! Does a test get a database, and does it go away with the test?

use backstitch_postgres::test;
use sqlx::Connection;
use sqlx::postgres::PgConnection;

#[tokio::test]
async fn a_database_is_new_empty_and_gone_with_the_test() {
    let database = test::database().await;
    let (server, name) = (database.server.clone(), database.name.clone());
    let pool = database.pool().await;
    let tables: i64 = sqlx::query_scalar("select count(*) from pg_tables where schemaname = 'public'")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(tables, 0);

    drop(database); // with the pool still open

    assert!(!exists(&server, &name).await);
}

#[tokio::test]
async fn two_databases_of_one_process_are_two() {
    let (one, other) = tokio::join!(test::database(), test::database());
    assert_ne!(one.url, other.url);
}

#[tokio::test]
async fn a_database_goes_when_the_test_panics() {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let panicked = tokio::spawn(async move {
        let database = test::database().await;
        sender
            .send((database.server.clone(), database.name.clone()))
            .unwrap();
        panic!("as tests do");
    });
    assert!(panicked.await.is_err());
    let (server, name) = receiver.await.unwrap();
    assert!(!exists(&server, &name).await);
}

async fn exists(server: &backstitch_postgres::Running, name: &str) -> bool {
    let mut connection = PgConnection::connect_with(&server.connect_options("postgres"))
        .await
        .unwrap();
    sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(name)
        .fetch_one(&mut connection)
        .await
        .unwrap()
}
