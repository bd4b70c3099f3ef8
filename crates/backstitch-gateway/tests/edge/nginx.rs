//! Does the client of nginx keep its promises against a real nginx?

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use backstitch_gateway::nginx::{Nginx, NginxConfig, NginxError, Reload, Removal, Vhost};
use backstitch_gateway::verdict::{Classified, Verdict};
use backstitch_postgres::test::SmallDisk;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::sandboxes::{Edge, owner, read_head, sandbox};

fn file_of(vhost: &Vhost) -> String {
    format!("org-{}.conf", vhost.hostname.organization())
}

#[tokio::test]
async fn a_route_is_served_after_the_reload() {
    let edge = sandbox(1).await;
    let nginx = edge.sandbox.nginx().unwrap();
    let vhost = Vhost { upstream: edge.sandbox.gateways[0].upstream, ..edge.vhost() };

    nginx.write_vhost(&vhost).await.unwrap();
    assert_eq!(nginx.route(&vhost.hostname).await.unwrap(), None, "a file is not a route yet");
    nginx.reload_until_live(&vhost.hostname, vhost.owner).await.unwrap();
    assert_eq!(nginx.route(&vhost.hostname).await.unwrap(), Some(vhost.owner));

    let fetched = edge.sandbox.fetch(&vhost.hostname, "/").await.unwrap();
    assert_eq!(fetched.status, 200, "{fetched:?}");
    assert!(fetched.body.contains(&format!("\"host\":\"{}\"", vhost.hostname)), "{fetched:?}");
    assert!(fetched.body.contains("\"upgrade\":null"), "{fetched:?}");
    assert_eq!(edge.sandbox.fetch(&edge.hostname(), "/").await.unwrap().status, 404, "nobody's name");

    // Again: the same file, the same route.
    nginx.write_vhost(&vhost).await.unwrap();
    nginx.reload_until_live(&vhost.hostname, vhost.owner).await.unwrap();
    assert_eq!(edge.sites(), [file_of(&vhost)]);
}

#[tokio::test]
async fn after_removal_the_route_is_gone_from_the_running_nginx_not_only_from_the_disk() {
    let edge = sandbox(0).await;
    let nginx = edge.sandbox.nginx().unwrap();
    let vhost = edge.vhost();
    let organization = vhost.hostname.organization();
    nginx.write_vhost(&vhost).await.unwrap();
    nginx.reload_until_live(&vhost.hostname, vhost.owner).await.unwrap();

    assert_eq!(nginx.remove_vhost(organization, vhost.owner).await.unwrap(), Removal::Removed);
    assert_eq!(edge.sites(), [] as [&str; 0]);
    assert_eq!(nginx.route(&vhost.hostname).await.unwrap(), Some(vhost.owner), "gone from the disk only");

    nginx.reload_until_gone(&vhost.hostname, vhost.owner).await.unwrap();
    for _ in 0..100 {
        assert_eq!(nginx.route(&vhost.hostname).await.unwrap(), None, "every worker must have forgotten it");
    }
    assert_eq!(nginx.remove_vhost(organization, vhost.owner).await.unwrap(), Removal::Absent);
}

#[tokio::test]
async fn a_route_that_another_vhost_answers_is_not_called_live() {
    let edge = sandbox(0).await;
    let nginx = edge.sandbox.nginx().unwrap();
    let vhost = edge.vhost();
    let earlier =
        format!("server {{ listen {}; server_name {}; return 204; }}", edge.sandbox.edge(), vhost.hostname);
    fs::write(edge.sandbox.nginx_config().sites.join("000-first.conf"), earlier).unwrap();

    nginx.write_vhost(&vhost).await.unwrap();
    let error = nginx.reload_until_live(&vhost.hostname, vhost.owner).await.unwrap_err();
    assert!(matches!(error, NginxError::RouteNotLive { found: None, .. }), "{error:?}");
    assert!(error.may_have_happened());
}

#[tokio::test]
async fn a_configuration_that_someone_else_broke_is_told_apart() {
    let edge = sandbox(0).await;
    let nginx = edge.sandbox.nginx().unwrap();
    let ours = edge.vhost();
    nginx.write_vhost(&ours).await.unwrap();
    nginx.reload_until_live(&ours.hostname, ours.owner).await.unwrap();
    let broken = edge.sandbox.nginx_config().sites.join("shop.conf");
    fs::write(&broken, "server { listen 80").unwrap();

    let late = edge.vhost();
    for error in [
        nginx.write_vhost(&late).await.unwrap_err(),
        nginx.write_vhost(&ours).await.unwrap_err(),
        nginx.reload().await.unwrap_err(),
        nginx.test().await.unwrap_err(),
    ] {
        assert!(matches!(error, NginxError::SomeoneElsesConfig { .. }), "{error:?}");
        assert!(error.to_string().contains("shop.conf"), "it says where: {error}");
        assert!(error.is_transient(), "somebody may mend it");
        assert!(!error.may_have_happened());
    }
    assert!(!edge.sites().contains(&file_of(&late)), "nothing of ours was left there");
    assert_eq!(
        nginx.route(&ours.hostname).await.unwrap(),
        Some(ours.owner),
        "nginx goes on with what it had"
    );

    // Taking back is possible all the same; only the reload must wait.
    let removal = nginx.remove_vhost(ours.hostname.organization(), ours.owner).await.unwrap();
    assert!(matches!(removal, Removal::Removed | Removal::Absent), "{removal:?}");
    fs::remove_file(broken).unwrap();
    nginx.reload_until_gone(&ours.hostname, ours.owner).await.unwrap();
}

#[tokio::test]
async fn a_vhost_that_breaks_the_configuration_is_withdrawn() {
    let edge = sandbox(0).await;
    let config = edge.sandbox.nginx_config();
    let main = config.prefix.join(&config.conf);
    let text = fs::read_to_string(&main).unwrap();
    // Our names don't fit into the default's buckets.
    fs::write(&main, text.replace("server_names_hash_bucket_size 512", "server_names_hash_bucket_size 32"))
        .unwrap();
    let nginx = Nginx::new(config).unwrap();

    let vhost = edge.vhost();
    let error = nginx.write_vhost(&vhost).await.unwrap_err();
    assert!(matches!(error, NginxError::OurVhostRefused { .. }), "{error:?}");
    assert!(error.to_string().contains("server_names_hash"), "in nginx's words: {error}");
    assert_eq!(error.verdict(), Verdict::Rejected);
    assert_eq!(edge.sites(), [] as [&str; 0]);
    nginx.test().await.unwrap();
}

#[tokio::test]
async fn someone_elses_file_is_neither_overwritten_nor_removed() {
    let edge = sandbox(0).await;
    let nginx = edge.sandbox.nginx().unwrap();
    let vhost = edge.vhost();
    let organization = vhost.hostname.organization();
    let path = edge.sandbox.nginx_config().sites.join(file_of(&vhost));
    let elsewhere = edge.directory.path().join("elsewhere");
    fs::write(&elsewhere, "precious").unwrap();

    let by_hand = "# by hand\n".to_owned();
    let pretended = format!("# by hand\n# workflow: {}\n", vhost.owner);
    for text in [by_hand, pretended, String::new()] {
        fs::write(&path, &text).unwrap();
        let error = nginx.write_vhost(&vhost).await.unwrap_err();
        assert!(matches!(error, NginxError::SomeoneElsesFile { .. }), "{error:?}");
        assert_eq!(error.verdict(), Verdict::Rejected);
        let removal = nginx.remove_vhost(organization, vhost.owner).await.unwrap();
        assert!(matches!(removal, Removal::NotOurs { .. }), "{removal:?}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    fs::remove_file(&path).unwrap();

    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    assert!(nginx.write_vhost(&vhost).await.is_err());
    assert!(matches!(nginx.remove_vhost(organization, vhost.owner).await.unwrap(), Removal::NotOurs { .. }));
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "precious");
    fs::remove_file(&path).unwrap();

    nginx.write_vhost(&vhost).await.unwrap();
    let other = Vhost { owner: owner(), ..vhost.clone() };
    let error = nginx.write_vhost(&other).await.unwrap_err();
    assert!(error.to_string().contains(&vhost.owner.to_string()), "it names the holder: {error}");
    assert!(matches!(nginx.remove_vhost(organization, other.owner).await.unwrap(), Removal::NotOurs { .. }));
    assert_eq!(nginx.remove_vhost(organization, vhost.owner).await.unwrap(), Removal::Removed);
}

#[tokio::test]
async fn a_temporary_file_never_matches_the_glob_and_goes_with_the_vhost() {
    let edge = sandbox(0).await;
    let nginx = edge.sandbox.nginx().unwrap();
    let vhost = edge.vhost();
    let organization = vhost.hostname.organization();
    let remains = format!(".org-{organization}.0123456789abcdef.tmp");
    fs::write(edge.sandbox.nginx_config().sites.join(&remains), "server { listen 80").unwrap();

    nginx.write_vhost(&vhost).await.unwrap();
    nginx.reload_until_live(&vhost.hostname, vhost.owner).await.unwrap();
    nginx.remove_vhost(organization, vhost.owner).await.unwrap();
    assert_eq!(edge.sites(), [] as [&str; 0]);
}

#[tokio::test]
async fn an_upstream_that_is_no_longer_allowed_is_not_written() {
    let edge = sandbox(0).await;
    let nginx = edge.sandbox.nginx().unwrap();
    // As it would come out of a journal written under other rules.
    let vhost = Vhost { upstream: "169.254.169.254:80".parse().unwrap(), ..edge.vhost() };
    let error = nginx.write_vhost(&vhost).await.unwrap_err();
    assert!(matches!(error, NginxError::UpstreamRefused(_)), "{error:?}");
    assert_eq!(error.verdict(), Verdict::Rejected);
    assert_eq!(edge.sites(), [] as [&str; 0]);
}

/// Everybody asks while another worker is at it, so none of them is answered by that one.
#[tokio::test]
async fn many_who_ask_at_once_are_answered_by_one_reload() {
    let edge = sandbox(0).await;
    let config = edge.sandbox.nginx_config();
    let before = edge.sandbox.nginx().unwrap().reloads_done().unwrap();
    let other_worker =
        fs::File::options().create(true).append(true).open(config.state.join("reloading.lock")).unwrap();
    other_worker.lock().unwrap();

    let mut askers = JoinSet::new();
    for _worker in 0..2 {
        let nginx = std::sync::Arc::new(Nginx::new(config.clone()).unwrap());
        for _workflow in 0..8 {
            let nginx = nginx.clone();
            askers.spawn(async move { nginx.reload().await.unwrap() });
        }
    }
    // One thread: when this task has its turn again, each asker has asked and waits.
    tokio::task::yield_now().await;
    drop(other_worker);

    let answers = askers.join_all().await;
    assert_eq!(answers.len(), 16);
    assert_eq!(answers.iter().filter(|answer| **answer == Reload::Done).count(), 1);
    assert_eq!(edge.sandbox.nginx().unwrap().reloads_done().unwrap(), before + 1);
}

#[tokio::test]
async fn a_reload_that_began_before_the_change_does_not_answer() {
    let edge = sandbox(0).await;
    let nginx = edge.sandbox.nginx().unwrap();
    let mut shared = 0;
    // Whenever one of many tasks asks, its own change must be live when it is answered.
    let config = edge.sandbox.nginx_config();
    let mut changes = JoinSet::new();
    for _ in 0..12 {
        let (nginx, vhost) = (Nginx::new(config.clone()).unwrap(), edge.vhost());
        changes.spawn(async move {
            nginx.write_vhost(&vhost).await.unwrap();
            let reload = nginx.reload().await.unwrap();
            assert_eq!(nginx.route(&vhost.hostname).await.unwrap(), Some(vhost.owner));
            reload
        });
    }
    for reload in changes.join_all().await {
        shared += usize::from(reload == Reload::Shared);
    }
    assert_eq!(nginx.reloads_done().unwrap(), 12 - shared as u64);
}

#[tokio::test]
async fn a_reload_that_nginx_refuses_is_told_in_its_own_words() {
    let edge = sandbox(0).await;
    let nginx = edge.sandbox.nginx().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap().into_std().unwrap();
    let text = format!("server {{ listen {}; }}", taken.local_addr().unwrap());
    fs::write(edge.sandbox.nginx_config().sites.join("taken.conf"), text).unwrap();

    nginx.test().await.unwrap();
    let error = nginx.reload().await.unwrap_err();
    assert!(matches!(error, NginxError::ReloadFailed { .. }), "{error:?}");
    assert!(error.to_string().contains("Address already in use"), "{error}");
    assert_eq!(error.verdict(), Verdict::Retry);

    // The master has given up by then: its complaint is not taken for one about the next reload.
    fs::remove_file(edge.sandbox.nginx_config().sites.join("taken.conf")).unwrap();
    assert_eq!(nginx.reload().await.unwrap(), Reload::Done);
}

/// What somebody else does so that nothing comes into the running nginx: the file that does it.
async fn somebody_keeps_nginx_from_reloading(
    edge: &Edge,
    how: &str,
) -> (std::path::PathBuf, Option<TcpListener>) {
    let file = edge.site("shop.conf");
    if how == "a test that hangs" {
        // Whoever opens it waits for a writer.
        assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
        return (file, None);
    }
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    fs::write(&file, format!("server {{ listen {}; }}", taken.local_addr().unwrap())).unwrap();
    (file, Some(taken))
}

#[tokio::test]
async fn a_route_that_never_came_is_gone_though_somebody_keeps_nginx_from_reloading() {
    for (how, code) in
        [("a port that is taken", "nginx_reload_failed"), ("a test that hangs", "nginx_test_timed_out")]
    {
        let edge = sandbox(0).await;
        let nginx = edge.sandbox.nginx().unwrap();
        let (live, written) = (edge.vhost(), edge.vhost());
        nginx.write_vhost(&live).await.unwrap();
        nginx.reload_until_live(&live.hostname, live.owner).await.unwrap();
        nginx.write_vhost(&written).await.unwrap();
        let (file, _taken) = somebody_keeps_nginx_from_reloading(&edge, how).await;

        let error = nginx.reload_until_gone(&written.hostname, written.owner).await.unwrap_err();
        assert_eq!(error.code(), code, "its file is there, and comes to life with the next reload: {error}");
        nginx.remove_vhost(written.hostname.organization(), written.owner).await.unwrap();
        nginx
            .reload_until_gone(&written.hostname, written.owner)
            .await
            .unwrap_or_else(|e| panic!("{how}: {e}"));

        // One that is live is not gone because its file is.
        nginx.remove_vhost(live.hostname.organization(), live.owner).await.unwrap();
        let error = nginx.reload_until_gone(&live.hostname, live.owner).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        fs::remove_file(file).unwrap();
        nginx.reload_until_gone(&live.hostname, live.owner).await.unwrap();
    }
}

#[tokio::test]
async fn nobody_else_on_the_host_can_hold_the_locks() {
    use std::os::unix::fs::PermissionsExt;
    let edge = sandbox(0).await;
    let state = edge.directory.path().join("locks");
    // As an earlier version made them, or somebody's `mkdir`.
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["writing.lock", "reloads.json"] {
        fs::write(state.join(name), "").unwrap();
        fs::set_permissions(state.join(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
    let nginx = Nginx::new(NginxConfig { state: state.clone(), ..edge.sandbox.nginx_config() }).unwrap();
    nginx.write_vhost(&edge.vhost()).await.unwrap();
    nginx.reload().await.unwrap();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o700);
    for name in ["writing.lock", "reloading.lock", "reloads.json"] {
        assert_eq!(mode(&state.join(name)), 0o600, "{name}");
    }
}

#[tokio::test]
async fn an_nginx_that_is_not_there_is_a_clear_error() {
    let mut edge = sandbox(0).await;
    let config = edge.sandbox.nginx_config();
    let nowhere = Nginx::new(NginxConfig { binary: "/nowhere/nginx".into(), ..config.clone() }).unwrap();
    let error = nowhere.write_vhost(&edge.vhost()).await.unwrap_err();
    assert!(matches!(error, NginxError::NotRunnable { .. }), "{error:?}");
    assert!(error.to_string().contains("/nowhere/nginx"), "{error}");
    assert_eq!(error.verdict(), Verdict::Rejected);
    assert_eq!(edge.sites(), [] as [&str; 0]);

    // A stranger's process id in the file must not get a signal.
    fs::write(config.prefix.join("stranger.pid"), std::process::id().to_string()).unwrap();
    let stranger = NginxConfig { pid_file: config.prefix.join("stranger.pid"), ..config };
    let error = Nginx::new(stranger).unwrap().reload().await.unwrap_err();
    assert!(matches!(error, NginxError::NotRunning { .. }), "{error:?}");

    let nginx = edge.sandbox.nginx().unwrap();
    edge.sandbox.nginx_server().kill().unwrap();
    let error = nginx.reload().await.unwrap_err();
    assert!(matches!(error, NginxError::NotRunning { .. }), "{error:?}");
    let error = nginx.route(&edge.hostname()).await.unwrap_err();
    assert!(matches!(error, NginxError::EdgeSilent { .. }), "{error:?}");
}

#[tokio::test]
async fn a_frozen_nginx_is_given_up_in_bounded_time() {
    let mut edge = sandbox(0).await;
    let nginx = edge.sandbox.nginx().unwrap();
    edge.sandbox.nginx_server().freeze().unwrap();
    let began = Instant::now();
    let reload = nginx.reload().await.unwrap_err();
    assert!(matches!(reload, NginxError::ReloadFailed { .. }), "{reload:?}");
    let probe = nginx.route(&edge.hostname()).await.unwrap_err();
    assert!(matches!(probe, NginxError::EdgeSilent { .. }), "{probe:?}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    edge.sandbox.nginx_server().thaw().unwrap();
    nginx.reload().await.unwrap();
}

#[tokio::test]
async fn websockets_pass() {
    let edge = sandbox(0).await;
    let nginx = edge.sandbox.nginx().unwrap();
    let gateway = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = gateway.local_addr().unwrap().to_string().parse().unwrap();
    let vhost = Vhost { upstream, ..edge.vhost() };
    nginx.write_vhost(&vhost).await.unwrap();
    nginx.reload_until_live(&vhost.hostname, vhost.owner).await.unwrap();

    let (mut member, mut socket, head) = open_socket(&edge, &vhost, &gateway).await;
    assert!(head.starts_with("GET /doc HTTP/1.1\r\n"), "{head}");
    assert!(head.to_lowercase().contains("upgrade: websocket\r\n"), "{head}");
    assert!(head.to_lowercase().contains("connection: upgrade\r\n"), "{head}");
    assert!(head.contains(&format!("Host: {}\r\n", vhost.hostname)), "{head}");

    // From here on it is a socket, both ways.
    for (from, to) in [(&mut member, &mut socket)] {
        from.write_all(b"ping").await.unwrap();
        let mut bytes = [0; 4];
        to.read_exact(&mut bytes).await.unwrap();
        to.write_all(b"pong").await.unwrap();
        from.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"pong");
    }
}

#[tokio::test]
async fn sockets_of_a_route_that_is_gone_are_closed_although_their_gateway_keeps_them() {
    let edge = sandbox(0).await;
    let config = edge.sandbox.nginx_config();
    let main = config.prefix.join(&config.conf);
    let text = fs::read_to_string(&main).unwrap();
    fs::write(&main, text.replace("worker_shutdown_timeout 10s;", "worker_shutdown_timeout 1s;")).unwrap();
    let nginx = edge.sandbox.nginx().unwrap();
    let gateway = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = gateway.local_addr().unwrap().to_string().parse().unwrap();
    let vhost = Vhost { upstream, ..edge.vhost() };
    nginx.write_vhost(&vhost).await.unwrap();
    nginx.reload_until_live(&vhost.hostname, vhost.owner).await.unwrap();
    let (mut member, _socket, _) = open_socket(&edge, &vhost, &gateway).await;

    nginx.remove_vhost(vhost.hostname.organization(), vhost.owner).await.unwrap();
    nginx.reload_until_gone(&vhost.hostname, vhost.owner).await.unwrap();
    let closed = tokio::time::timeout(Duration::from_secs(20), member.read(&mut [0; 16])).await;
    let closed = closed.expect("nginx holds the socket still");
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
}

/// A member's socket through nginx: its end, the gateway's end, and what the gateway was asked.
async fn open_socket(edge: &Edge, vhost: &Vhost, gateway: &TcpListener) -> (TcpStream, TcpStream, String) {
    let mut member = TcpStream::connect(edge.sandbox.edge()).await.unwrap();
    let hello = format!(
        "GET /doc HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        vhost.hostname
    );
    member.write_all(hello.as_bytes()).await.unwrap();
    let (mut socket, _) = gateway.accept().await.unwrap();
    let head = read_head(&mut socket).await;
    socket
        .write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        .await
        .unwrap();
    assert!(read_head(&mut member).await.starts_with("HTTP/1.1 101 "));
    (member, socket, head)
}

/// A few vhosts.
const DISK_BYTES: u64 = 64 * 1024;

#[tokio::test]
async fn a_full_disk_of_the_vhosts_is_an_error_not_a_loss() {
    let edge = sandbox(0).await;
    let nginx = edge.sandbox.nginx().unwrap();
    let standing = edge.vhost();
    let disk = SmallDisk::mount(&edge.sandbox.nginx_config().sites, DISK_BYTES).unwrap();
    nginx.write_vhost(&standing).await.unwrap();
    nginx.reload_until_live(&standing.hostname, standing.owner).await.unwrap();
    disk.fill().unwrap();

    let vhost = edge.vhost();
    let error = nginx.write_vhost(&vhost).await.unwrap_err();
    assert!(matches!(error, NginxError::Disk { .. }), "{error:?}");
    assert_eq!(error.verdict(), Verdict::Retry);
    assert!(!error.may_have_happened());
    assert_eq!(edge.sites(), [file_of(&standing)]);
    nginx.test().await.unwrap();

    // An earlier file is not lost to a failed rewrite, and can be taken back from a full disk.
    assert!(nginx.write_vhost(&standing).await.is_err());
    nginx.reload_until_live(&standing.hostname, standing.owner).await.unwrap();
    let organization = standing.hostname.organization();
    assert_eq!(nginx.remove_vhost(organization, standing.owner).await.unwrap(), Removal::Removed);
    nginx.reload_until_gone(&standing.hostname, standing.owner).await.unwrap();

    disk.make_room().unwrap();
    nginx.write_vhost(&vhost).await.unwrap();
    nginx.reload_until_live(&vhost.hostname, vhost.owner).await.unwrap();
}

#[tokio::test]
async fn a_killed_sandbox_is_cleared_away_by_the_next_in_its_directory() {
    let Edge { mut sandbox, directory } = sandbox(1).await;
    let (powerdns, nginx) = (sandbox.powerdns_server().pid(), sandbox.nginx_server().pid());
    let gateway = sandbox.gateways[0].server().unwrap().pid();
    let old_edge: SocketAddr = sandbox.edge();
    // As if this process had been killed: nothing is dropped.
    std::mem::forget(sandbox);

    let options =
        backstitch_gateway::sandbox::SandboxOptions { gateways: 1, ..crate::sandboxes::options(&directory) };
    let next = backstitch_gateway::sandbox::Sandbox::start(options).await.unwrap();
    for pid in [powerdns, nginx, gateway] {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert_eq!(command, b"", "process {pid} is gone or only waits to be reaped");
    }
    assert!(next.edge() == old_edge || TcpStream::connect(old_edge).await.is_err());
}
