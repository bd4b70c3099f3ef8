//! What is left after whoever started the server, or the server itself, was killed?

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use backstitch_postgres::test::private_cluster;
use backstitch_postgres::{Cluster, Durability, Stop};
use rustix::process::{Pid, Signal, getsid, kill_process};

use crate::ask::{connect, setting};
use crate::child::{self, Child, Home};

#[tokio::test]
async fn survives_the_death_of_the_process_that_started_it() {
    let home = Home::new();
    let mut child = Child::starting(home.directory());
    let pid = child.server();

    // The whole group, as a supervisor would. Its pipe ends with it, as the server holds no end of it.
    child.kill_group();

    let cluster = home.throwaway();
    assert_eq!(cluster.postmaster_pid().unwrap().map(|pid| pid.to_string()), Some(pid.clone()));
    let server = cluster.start().await.unwrap();
    assert_eq!(setting(&server, "fsync").await, "off");
    assert_eq!(cluster.postmaster_pid().unwrap().map(|pid| pid.to_string()), Some(pid));
}

#[tokio::test]
async fn the_server_leads_a_session_of_its_own() {
    let private = private_cluster(Durability::Throwaway).await;
    let server = process(&private.cluster);
    assert_eq!(getsid(Some(server)).unwrap(), server);
}

#[tokio::test]
async fn a_start_killed_in_the_middle_leaves_nothing_half_done() {
    let home = Home::new();
    let mut child = Child::starting(home.directory());
    child::until("initdb is at work", || has_entry(home.directory(), "data.making-")).await;
    child.kill();

    let server = home.throwaway().start().await.unwrap();

    assert_eq!(setting(&server, "max_connections").await, "200");
}

#[tokio::test]
async fn a_killed_postmaster_is_started_again() {
    let private = private_cluster(Durability::Full).await;
    let mut connection = connect(&private.server).await;
    sqlx::raw_sql("create table kept (n int); insert into kept values (1)")
        .execute(&mut connection)
        .await
        .unwrap();
    let killed = private.cluster.postmaster_pid().unwrap();

    kill_process(process(&private.cluster), Signal::KILL).unwrap();
    child::until("it is dead", || private.cluster.postmaster_pid().unwrap() != killed).await;
    let server = private.cluster.start().await.unwrap();

    assert_ne!(private.cluster.postmaster_pid().unwrap(), killed);
    let kept: i32 =
        sqlx::query_scalar("select n from kept").fetch_one(&mut connect(&server).await).await.unwrap();
    assert_eq!(kept, 1);
}

#[tokio::test]
async fn a_postmaster_killed_at_work_is_started_again() {
    let private = private_cluster(Durability::Throwaway).await;
    // A backend in a long computation learns late that its postmaster has died, and holds the shared memory
    // until then.
    let mut busy = connect(&private.server).await;
    let work = tokio::spawn(async move {
        sqlx::query("select count(*) from generate_series(1, 20000000)").execute(&mut busy).await
    });
    let mut watch = connect(&private.server).await;
    loop {
        let active: bool = sqlx::query_scalar(
            "select exists (select from pg_stat_activity where query like '%generate_series(1, 2%'
             and pid <> pg_backend_pid())",
        )
        .fetch_one(&mut watch)
        .await
        .unwrap();
        if active {
            break;
        }
    }

    kill_process(process(&private.cluster), Signal::KILL).unwrap();
    let server = private.cluster.start().await.unwrap();

    assert_eq!(setting(&server, "port").await, "5432");
    let _ = work.await;
}

#[tokio::test]
async fn a_pid_file_that_names_a_stranger_does_not_stop_the_start() {
    let private = private_cluster(Durability::Throwaway).await;
    let pid_file = private.cluster.directory().join("data/postmaster.pid");
    let text = std::fs::read_to_string(&pid_file).unwrap();
    let owner = std::fs::metadata(&pid_file).unwrap();
    private.cluster.stop(Stop::Immediate).await.unwrap();
    // As after a reboot: the number now belongs to another process of the same user, in both files of the
    // server.
    let mut stranger = child::sleeper(owner.uid(), owner.gid());
    let (_, rest) = text.split_once('\n').unwrap();
    let socket_lock = private.cluster.directory().join("socket/.s.PGSQL.5432.lock");
    for file in [pid_file, socket_lock] {
        std::fs::write(&file, format!("{}\n{rest}", stranger.id())).unwrap();
        std::os::unix::fs::chown(&file, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    assert_eq!(private.cluster.postmaster_pid().unwrap(), None);

    private.cluster.start().await.unwrap();

    assert_ne!(private.cluster.postmaster_pid().unwrap(), Some(stranger.id()));
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

fn process(cluster: &Cluster) -> Pid {
    let pid = cluster.postmaster_pid().unwrap().expect("it should run");
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

fn has_entry(directory: &Path, prefix: &str) -> bool {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
}
