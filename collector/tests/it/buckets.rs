//! The `headwater` command on a lake in a bucket, with its settings where people put them: in the environment.

use std::process::{Command, Output};

use headwater_lake::testing::Moto;
use headwater_lake::{CommitRequest, RefName};

fn headwater(lake: &str, env: &[(String, String)], words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headwater"));
    for key in ["AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AWS_ALLOW_HTTP", "AWS_ACCESS_KEY_ID", "HEADWATER_LAKE"] {
        command.env_remove(key);
    }
    command.args(["--lake", lake]).args(words).envs(env.iter().cloned()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn a_lake_in_a_bucket_is_read_and_mistakes_are_named() {
    let Some(moto) = Moto::start().await else { return };
    let lake = moto.lake("fleet").await.unwrap();
    let request = CommitRequest { message: "the first".to_owned(), ..CommitRequest::default() };
    lake.writer(RefName::main(), "test".to_owned()).commit(request).await.unwrap();

    let said = headwater(&moto.location("fleet"), &moto.env(), &["log"]);
    assert!(said.status.success(), "{}", text(&said.stderr));
    assert!(text(&said.stdout).contains("the first"), "{}", text(&said.stdout));

    let wrong = |lake: &str, env: &[(String, String)]| {
        let said = headwater(lake, env, &["log"]);
        assert_eq!(said.status.code(), Some(1), "{}", text(&said.stdout));
        text(&said.stderr)
    };
    let said = wrong(&moto.location("nothing"), &moto.env());
    assert!(said.contains("name an existing lake"), "{said}");
    let said = wrong("s3://no-such-bucket/fleet", &moto.env());
    assert!(said.contains("aws s3 mb"), "{said}");
    let tls: Vec<_> = moto.env().into_iter().filter(|(key, _)| key != "AWS_ALLOW_HTTP").collect();
    let said = wrong(&moto.location("fleet"), &tls);
    assert!(said.contains("AWS_ALLOW_HTTP=true"), "{said}");
    let said = wrong("ftp://host/x", &[]);
    assert!(said.contains("s3://bucket/prefix"), "{said}");
}
