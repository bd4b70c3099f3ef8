//! Does every command work behind a transaction pooler that it is told of, and say so where it is not?

use backstitch_testkit::pooler::Pooler;

use crate::world::{Ran, World, end};

struct Pooled {
    world: World,
    pooler: Pooler,
}

impl Pooled {
    async fn new() -> Self {
        let world = World::new().await;
        let pooler = Pooler::before(&world.database.server, 2).await;
        Self { world, pooler }
    }

    async fn run(&self, arguments: &[&str], told: bool) -> Ran {
        let mut command = self.world.command(arguments);
        command.env("DATABASE_URL", self.pooler.url(&self.world.database.name));
        if told {
            command.env("BACKSTITCH_TRANSACTION_POOLER", "true");
        }
        end(command).await
    }
}

#[tokio::test]
async fn commands_go_through_a_transaction_pooler() {
    let pooled = Pooled::new().await;
    let run = async |arguments: &[&str], code| pooled.run(arguments, true).await.expect(code);
    let workflow = run(&["enqueue", "report.build", "{}", "--key", "a"], 0).await.out.trim().to_owned();
    let again = run(&["enqueue", "report.build", "{}", "--key", "a"], 0).await.out;
    assert_eq!(again.trim(), workflow, "the key is known");
    assert!(run(&["list"], 0).await.out.contains(&workflow));
    run(&["pause", "--kind", "report.build", "--by", "ada", "--why", "wait"], 0).await;
    run(&["cancel", &workflow, "--by", "ada", "--why", "not wanted"], 0).await;
    run(&["recover", "--without-gateway"], 0).await;
    assert!(run(&["show", &workflow], 0).await.out.contains("cancelled by ada"));
    let doctor = run(&["doctor", "--without-gateway", "--listen", "127.0.0.1:0"], 1).await.out;
    assert!(doctor.contains("primary, read committed"), "{doctor}");
}

#[tokio::test]
async fn who_does_not_say_that_a_pooler_is_between_is_told_to() {
    let mut pooled = Pooled::new().await;
    let refused = pooled.run(&["list"], false).await;
    refused.complains(1, &["unsupported startup parameter", "--transaction-pooler"]);
    // One that takes no notice of what our sessions begin with.
    let server = &pooled.world.database.server;
    pooled.pooler = Pooler::ignoring("extra_float_digits, options", server, 2).await;
    let mut said = Vec::new();
    // Who comes first may be well: the sessions are new.
    for _ in 0..3 {
        said.push(pooled.run(&["list"], false).await);
    }
    let refused = said.into_iter().find(|ran| ran.code != 0).expect("a session was another's before");
    refused.complains(1, &["prepared statement", "transaction_pooler"]);
    let refused = pooled.run(&["migrate"], true).await;
    refused.complains(1, &["migrations can't go through a transaction pooler: name the database itself"]);
}
