//! Does the flag go before the environment, that before the file, and does a mistake in the file say where it is?

use std::fs::Permissions;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::world::{World, bare, end};

#[tokio::test]
async fn flag_goes_before_environment_before_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("backstitch.toml");
    std::fs::write(&file, "database_url = \"postgres://me@127.0.0.1:1/from-the-file\"\n").unwrap();
    let list = || bare(directory.path(), &["list"]);
    end(list()).await.complains(1, &["from-the-file"]);

    let mut with_environment = list();
    with_environment.env("DATABASE_URL", "postgres://me@127.0.0.1:1/from-the-environment");
    end(with_environment).await.complains(1, &["from-the-environment"]);

    let flag = ["list", "--database-url", "postgres://me@127.0.0.1:1/from-the-flag"];
    let mut with_flag = bare(directory.path(), &flag);
    with_flag.env("DATABASE_URL", "postgres://me@127.0.0.1:1/from-the-environment");
    end(with_flag).await.complains(1, &["from-the-flag"]);

    let mut empty_is_unsaid = list();
    empty_is_unsaid.env("DATABASE_URL", "");
    end(empty_is_unsaid).await.complains(1, &["from-the-file"]);
}

#[tokio::test]
async fn the_first_file_that_is_there_is_read_and_a_named_one_must_be() {
    let directory = tempfile::tempdir().unwrap();
    let write = |path: &str, database: &str| {
        let path = directory.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("database_url = \"postgres://me@127.0.0.1:1/{database}\"\n")).unwrap();
    };
    write("config/backstitch/backstitch.toml", "of-the-user");
    write("named.toml", "named");
    let config_home = directory.path().join("config");
    let mut list = bare(directory.path(), &["list"]);
    list.env("XDG_CONFIG_HOME", &config_home);
    end(list).await.complains(1, &["of-the-user"]);

    write("backstitch.toml", "of-the-directory");
    let mut list = bare(directory.path(), &["list"]);
    list.env("XDG_CONFIG_HOME", &config_home);
    end(list).await.complains(1, &["of-the-directory"]);

    end(bare(directory.path(), &["list", "--config", "named.toml"]))
        .await
        .complains(1, &["at 127.0.0.1", "named"]);
    let absent = bare(directory.path(), &["list", "--config", "absent.toml"]);
    end(absent).await.complains(1, &["there is no configuration absent.toml"]);
}

#[tokio::test]
async fn an_unknown_key_of_the_file_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("backstitch.toml");
    std::fs::write(&file, "listen = \"127.0.0.1:1\"\n\n[gateway]\ndomian = \"a.test\"\n").unwrap();
    end(bare(directory.path(), &["list"]))
        .await
        .complains(1, &["backstitch.toml, line 4", "domian", "domain"]);
}

#[tokio::test]
async fn listening_beyond_loopback_is_refused_however_it_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let said = ["0.0.0.0:7410 is not on loopback", "127.0.0.1"];
    let by_flag = bare(directory.path(), &["serve", "--without-gateway", "--listen", "0.0.0.0:7410"]);
    end(by_flag).await.complains(2, &said);
    let mut by_environment = bare(directory.path(), &["serve", "--without-gateway"]);
    by_environment.env("BACKSTITCH_LISTEN", "0.0.0.0:7410");
    end(by_environment).await.complains(2, &said);
    std::fs::write(directory.path().join("backstitch.toml"), "listen = \"0.0.0.0:7410\"\n").unwrap();
    end(bare(directory.path(), &["serve", "--without-gateway"])).await.complains(2, &said);
    let no_address = bare(directory.path(), &["serve", "--without-gateway", "--listen", "7410"]);
    end(no_address).await.complains(2, &["no address to listen on", "127.0.0.1:7410"]);
}

#[tokio::test]
async fn serving_gateways_needs_to_know_the_edge() {
    let directory = tempfile::tempdir().unwrap();
    let missing = ["--domain", "--edge-address", "BACKSTITCH_POWERDNS_API_KEY", "--without-gateway"];
    end(bare(directory.path(), &["serve"])).await.complains(2, &missing);
    end(bare(directory.path(), &["recover"])).await.complains(2, &missing);
    let world = World::new().await;
    let verified = world.run(&["verify", "--orphans"]).await.complains(2, &missing[..3]);
    assert!(!verified.err.contains("--without-gateway"), "verify has no such flag: {verified:?}");
    let edge = ["serve", "--edge-address", "192.0.2.1", "--powerdns-api-key-file", "key"];
    let with = |domain: &str| bare(directory.path(), &[&edge[..], &["--domain", domain]].concat());
    end(with("collab.test")).await.complains(2, &["powerdns api key file", "key"]);
    std::fs::write(directory.path().join("key"), "\n").unwrap();
    end(with("collab.test")).await.complains(2, &["powerdns api key file", "is empty"]);
    std::fs::write(directory.path().join("key"), "sesame\n").unwrap();
    end(with("collab")).await.complains(2, &["\"collab\" is not a domain", "collab.example.com"]);
    end(with("10.0.0.1")).await.complains(2, &["not a domain", "give a name"]);
}

#[tokio::test]
async fn what_others_may_have_written_into_this_directory_does_not_count() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("backstitch.toml");
    std::fs::write(&file, "database_url = \"postgres://me@127.0.0.1:1/of-the-directory\"\n").unwrap();
    let list = async |more: &[&str]| end(bare(directory.path(), &[&["list"], more].concat())).await;
    std::fs::set_permissions(&file, Permissions::from_mode(0o646)).unwrap();
    list(&[]).await.complains(1, &["./backstitch.toml: others may write it", "chmod go-w", "--config"]);
    list(&["--config", "backstitch.toml"]).await.complains(1, &["of-the-directory"]);
    std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    list(&[]).await.complains(1, &["of-the-directory"]);
}

#[tokio::test]
async fn a_server_that_this_directory_names_is_shown_no_token_from_elsewhere() {
    // A stand-in for the server of somebody who would like to have tokens. Nobody may even connect.
    let thief = TcpListener::bind("127.0.0.1:0").unwrap();
    thief.set_nonblocking(true).unwrap();
    let url = format!("http://{}", thief.local_addr().unwrap());
    let (home, checkout) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let token = format!("bst_{}", "7".repeat(64));
    std::fs::write(home.path().join("ops.token"), &token).unwrap();
    let ops = home.path().join("ops.token").display().to_string();
    let says = |text: String| std::fs::write(checkout.path().join("backstitch.toml"), text).unwrap();
    let list = |more: &[&str]| bare(checkout.path(), &[&["list"], more].concat());
    let with_token = |more: &[&str]| {
        let mut command = list(more);
        command.env("BACKSTITCH_TOKEN", &token);
        command
    };

    says(format!("server = \"{url}\"\n"));
    let said = ["is not shown to", &url, "BACKSTITCH_SERVER", "--config"];
    end(with_token(&[])).await.complains(2, &[&["BACKSTITCH_TOKEN"], &said[..]].concat());
    end(list(&["--server-token-file", &ops]))
        .await
        .complains(2, &[&["--server-token-file"], &said[..]].concat());
    for elsewhere in [ops.as_str(), "link"] {
        let _ = symlink(&ops, checkout.path().join("link"));
        says(format!("server = \"{url}\"\nserver_token_file = \"{elsewhere}\"\n"));
        end(list(&[])).await.complains(2, &["server_token_file", "it lies elsewhere", "--config"]);
    }
    assert!(thief.accept().is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "nobody came");

    // Whoever names the server or the file means it.
    drop(thief);
    says(format!("server = \"{url}\"\n"));
    end(with_token(&["--server", &url])).await.complains(1, &["can't be reached"]);
    end(with_token(&["--config", "backstitch.toml"])).await.complains(1, &["can't be reached"]);
    std::fs::write(checkout.path().join("its.token"), &token).unwrap();
    says(format!("server = \"{url}\"\nserver_token_file = \"its.token\"\n"));
    end(list(&[])).await.complains(1, &["can't be reached"]);
}
