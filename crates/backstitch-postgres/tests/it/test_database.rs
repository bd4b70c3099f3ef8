//! Does a test get a database, and does it go away with the test?

use std::path::PathBuf;

use backstitch_postgres::test;
use sqlx::Connection;
use sqlx::postgres::PgConnection;

use crate::child::{self, Child};

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
        sender.send((database.server.clone(), database.name.clone())).unwrap();
        panic!("as tests do");
    });
    assert!(panicked.await.is_err());
    let (server, name) = receiver.await.unwrap();
    // Nobody waits for it there: other tests of the process must not be held up.
    let gone = tokio::time::timeout(std::time::Duration::from_secs(60), async {
        while exists(&server, &name).await {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
    gone.await.expect("it goes");
}

#[tokio::test]
async fn what_a_killed_test_leaves_a_later_one_removes() {
    let mut killed = Child::testing();
    let (database, private) = (killed.said("database"), PathBuf::from(killed.said("private")));
    killed.kill();

    let mut later = Child::testing();
    later.said("private");

    assert!(!exists(&test::shared_cluster().await, &database).await);
    // Another test of this run may have been quicker, and may still be at it.
    child::until("the private cluster is gone", || !private.exists()).await;
    later.finish();
}

async fn exists(server: &backstitch_postgres::Running, name: &str) -> bool {
    let mut connection = PgConnection::connect_with(&server.connect_options("postgres")).await.unwrap();
    sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(name)
        .fetch_one(&mut connection)
        .await
        .unwrap()
}
