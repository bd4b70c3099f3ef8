//! Does a text become a secret at the hand, and is it shown nowhere?

use backstitch::{Keyring, Secret};
use tokio::process::Command;

use crate::world::{Ran, World, bare, end, end_with_input};

const TEXT: &str = "open sesame";

fn keyring() -> String {
    format!("# of the platform\nnew {}\nold {}\n", "0f".repeat(64), "f0".repeat(64))
}

async fn seal(directory: &std::path::Path, arguments: &[&str], text: &[u8]) -> Ran {
    end_with_input(bare(directory, &[&["seal", "toy"], arguments].concat()), text).await
}

#[tokio::test]
async fn a_text_is_sealed_to_its_kind_under_the_first_key_or_the_one_that_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    std::fs::write(directory.join("keyring"), keyring()).unwrap();
    let ring = Keyring::parse(&keyring()).unwrap();
    let by_flag = ["--keyring-file", "keyring"];
    for (arguments, text, expected) in [
        (&[][..], "open sesame", ring.seal("toy", TEXT)),
        (&[], "open sesame\n", ring.seal("toy", TEXT)),
        (&["--under", "old"], "open sesame\n", ring.seal_under("old", "toy", TEXT)),
        (&[], "open\nsesame\n\n", ring.seal("toy", "open\nsesame\n")),
    ] {
        let sealed = seal(directory, &[&by_flag, arguments].concat(), text.as_bytes()).await.expect(0);
        assert_eq!(sealed.out.lines().count(), 1, "{sealed:?}");
        assert_eq!(serde_json::from_str::<Secret>(&sealed.out).unwrap(), expected.unwrap());
        assert!(!sealed.out.contains("sesame") && sealed.err.is_empty(), "{sealed:?}");
    }
    // From the environment or the file it is the same keyring.
    let sealed = seal(directory, &by_flag, TEXT.as_bytes()).await.out;
    let mut by_environment = bare(directory, &["seal", "toy"]);
    by_environment.env("BACKSTITCH_KEYRING_FILE", "keyring");
    assert_eq!(end_with_input(by_environment, TEXT.as_bytes()).await.out, sealed);
    std::fs::write(directory.join("backstitch.toml"), "keyring_file = \"keyring\"\n").unwrap();
    assert_eq!(seal(directory, &[], TEXT.as_bytes()).await.out, sealed);
}

#[tokio::test]
async fn what_can_not_be_sealed_says_why_and_quotes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    seal(directory, &[], TEXT.as_bytes()).await.complains(2, &["--keyring-file", "keyring_file"]);
    std::fs::write(directory.join("keyring"), keyring()).unwrap();
    let with = async |arguments: &[&str], text: &[u8]| {
        seal(directory, &[&["--keyring-file", "keyring"], arguments].concat(), text).await
    };
    with(&["--under", "lost"], TEXT.as_bytes()).await.complains(2, &["key lost", "lacks"]);
    for text in [&b"sesame"[..], b"", b"sesame sesame\xff", b"sesame\0sesame", &[b's'; 48 * 1024 + 1]] {
        let refused = with(&[], text).await.complains(2, &["8 to 49152 bytes"]);
        assert!(!refused.err.contains("sesame"), "{refused:?}");
    }
    let absent = seal(directory, &["--keyring-file", "absent"], TEXT.as_bytes()).await;
    absent.complains(2, &["the keyring absent"]);
    std::fs::write(directory.join("keyring"), "new 0f0f\n").unwrap();
    let broken = with(&[], TEXT.as_bytes()).await.complains(2, &["the keyring keyring", "line 1"]);
    assert!(!broken.err.contains("0f0f"), "{broken:?}");
    // A terminal would show it: `script` gives the command one.
    let mut typed = Command::new("script");
    typed.args(["-qec", &format!("{} seal toy", env!("CARGO_BIN_EXE_backstitch")), "/dev/null"]);
    typed.current_dir(directory).env("BACKSTITCH_KEYRING_FILE", "keyring");
    std::fs::write(directory.join("keyring"), keyring()).unwrap();
    let typed = end(typed).await;
    assert!(typed.code == 2 && typed.out.contains("by `backstitch seal KIND < FILE`"), "{typed:?}");
}

#[tokio::test]
async fn what_is_sealed_at_the_hand_stands_sealed_in_an_input() {
    let world = World::new().await;
    std::fs::write(world.path("keyring"), keyring()).unwrap();
    let sealed = seal(world.directory.path(), &["--keyring-file", "keyring"], TEXT.as_bytes()).await.out;
    let input = format!("{{\"token\": {}}}", sealed.trim());
    let asked = world.run(&["enqueue", "toy", &input, "--key", "k"]).await.expect(0);
    let again = seal(world.directory.path(), &["--keyring-file", "keyring"], TEXT.as_bytes()).await.out;
    let input = format!("{{\"token\": {}}}", again.trim());
    assert_eq!(world.run(&["enqueue", "toy", &input, "--key", "k"]).await.expect(0).out, asked.out);
    let listed = world.run(&["list", "--json"]).await.expect(0);
    let token = &listed.json()[0]["input"]["token"]["$secret"];
    assert_eq!((&token["key"], &token["sealed"]), (&"new".into(), &"[redacted]".into()));
}
