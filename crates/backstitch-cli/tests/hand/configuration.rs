//! Does the flag go before the environment, that before the file, and does a mistake in the file say where it is?

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
