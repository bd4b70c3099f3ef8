//! Does a cluster start once, stop, and run as it was asked to?

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use backstitch_postgres::test::private_cluster;
use backstitch_postgres::{Cluster, Durability, Error, Status, Stop};
use sqlx::Connection;
use sqlx::postgres::PgConnection;

use crate::ask::setting;
use crate::child::{Child, Home};

#[tokio::test]
async fn starts_from_nothing_and_answers() {
    let home = Home::new();
    let cluster = home.throwaway();
    assert_eq!(cluster.status().await.unwrap(), Status::NotInitialised);

    let server = cluster.start().await.unwrap();

    assert_eq!(setting(&server, "listen_addresses").await, "");
    let Status::Running { pid, version, socket_directory, data_directory, uptime } =
        cluster.status().await.unwrap()
    else {
        panic!("it should run");
    };
    assert_eq!(Some(pid), cluster.postmaster_pid().unwrap());
    assert!(version >= 13, "{version}");
    let socket_directory = socket_directory.unwrap();
    assert_eq!(std::fs::metadata(socket_directory).unwrap().mode() & 0o777, 0o700);
    assert!(data_directory.starts_with(cluster.directory()));
    assert!(uptime < Duration::from_secs(300), "{uptime:?}");
}

#[tokio::test]
async fn a_second_start_reuses_the_running_server() {
    let private = private_cluster(Durability::Throwaway).await;
    let before = private.cluster.postmaster_pid().unwrap();

    let again = Cluster::at(private.cluster.directory()).durability(Durability::Throwaway);
    let server = again.start().await.unwrap();

    assert_eq!(again.postmaster_pid().unwrap(), before);
    assert_eq!(server.url("x"), private.server.url("x"));
}

#[test]
fn processes_starting_at_once_make_one_cluster() {
    let home = Home::new();
    let children: Vec<Child> = (0..4).map(|_| Child::starting(home.directory())).collect();
    let mut servers: Vec<String> = children.into_iter().map(|mut child| child.server()).collect();
    servers.dedup();
    assert_eq!(servers.len(), 1, "{servers:?}");
}

#[tokio::test]
async fn stops_and_restarts() {
    let private = private_cluster(Durability::Throwaway).await;
    for how in [Stop::Fast, Stop::Immediate] {
        let before = private.cluster.postmaster_pid().unwrap();
        let server = private.cluster.restart(how).await.unwrap();
        assert_ne!(private.cluster.postmaster_pid().unwrap(), before);
        assert_eq!(setting(&server, "port").await, "5432");

        private.cluster.stop(how).await.unwrap();
        assert!(matches!(private.cluster.status().await.unwrap(), Status::Stopped { .. }));
        private.cluster.stop(how).await.unwrap(); // nothing left to do
    }
}

#[tokio::test]
async fn fsync_is_on_unless_throwaway() {
    let durable = private_cluster(Durability::Full).await;
    for name in ["fsync", "full_page_writes", "synchronous_commit"] {
        assert_eq!(setting(&durable.server, name).await, "on", "{name}");
    }

    durable.cluster.stop(Stop::Fast).await.unwrap();
    let throwaway = durable.cluster.clone().durability(Durability::Throwaway);
    assert_eq!(setting(&throwaway.start().await.unwrap(), "fsync").await, "off");

    let refused = durable.cluster.start().await.unwrap_err();
    assert!(matches!(refused, Error::Throwaway { .. }), "{refused}");
}

#[tokio::test]
async fn a_database_is_made_once_whoever_asks() {
    let private = private_cluster(Durability::Throwaway).await;
    let server = &private.server;
    let (one, other) = tokio::join!(server.ensure_database("twice"), server.ensure_database("twice"));
    one.unwrap();
    other.unwrap();
    PgConnection::connect(&server.url("twice")).await.unwrap();
}
