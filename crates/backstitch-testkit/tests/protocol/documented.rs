//! Does what `docs/sql.md` shows work as it is shown?

use crate::stage::{Stage, code, execute};

const PAGE: &str = include_str!("../../../../docs/sql.md");

#[tokio::test]
async fn every_example_of_the_page_runs_and_fails_where_it_says_so() {
    let stage = Stage::new().await;
    stage.run("create table orders (order_id bigint primary key)").await;
    let mut session = stage.session().await;
    let mut run = 0;
    for block in PAGE.split("```sql\n").skip(1) {
        let sql = block.split("```").next().expect("a part");
        match sql.strip_prefix("-- fails with ").and_then(|rest| rest.split_once('\n')) {
            Some((expected, statement)) => {
                assert_eq!(code(execute(&mut session.connection, statement).await), expected, "{statement}");
            }
            None => {
                execute(&mut session.connection, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
            }
        }
        run += 1;
    }
    assert_eq!(run, 7, "the page has seven blocks");
    stage.run("drop owned by shop_application; drop role shop_application").await;
}
