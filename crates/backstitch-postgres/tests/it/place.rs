//! In which directories, and as whom, does a cluster run?

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use backstitch_postgres::{Cluster, Error};

use crate::ask::setting;
use crate::child::{self, Child, Home};

#[tokio::test]
async fn a_directory_too_long_for_a_socket_works() {
    let home = Home::named(&"long".repeat(30));
    let server = home.throwaway().start().await.unwrap();
    assert_eq!(setting(&server, "port").await, "5432");
}

#[tokio::test]
async fn a_directory_with_spaces_works() {
    let home = Home::named("two words, and 'quotes'");
    let server = home.throwaway().start().await.unwrap();
    assert_eq!(setting(&server, "port").await, "5432");
}

#[tokio::test]
async fn data_below_roots_home_is_refused() {
    if !child::is_root() {
        return; // for whom it is closed anyway
    }
    let refused = Cluster::at("/root/backstitch/postgres").start().await.unwrap_err();
    assert!(refused.to_string().contains("/var/lib/backstitch/postgres"), "{refused}");
    assert!(!Path::new("/root/backstitch").exists());
}

#[tokio::test]
async fn a_directory_with_something_else_in_it_is_left_alone() {
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("letter"), "dear").unwrap();
    let before = std::fs::metadata(other.path()).unwrap();

    let refused = Cluster::at(other.path()).start().await.unwrap_err();

    assert!(matches!(refused, Error::UnfitDirectory { .. }), "{refused}");
    assert_eq!(std::fs::metadata(other.path()).unwrap().uid(), before.uid());
}

#[test]
fn runs_as_a_plain_user_too() {
    if !child::is_root() {
        return; // then all of these do
    }
    let home = Home::of_nobody();
    let mut child = Child::starting_as_nobody(home.directory());
    assert!(child.server().parse::<u32>().is_ok());
}
