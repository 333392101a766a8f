//! What the lake leans on, asked of every store it may lie on: memory, a disk, S3 (as moto speaks it).

use std::sync::Arc;

use futures::future::join_all;
use object_store::memory::InMemory;

use super::write::SINGLE_PUT_BYTES_MAX;
use super::*;
use crate::testing::{Fault, FaultStore, Moto};

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// More than one request carries; every byte tells where it stands.
fn large() -> Bytes {
    (0..SINGLE_PUT_BYTES_MAX + (3 << 20)).map(|n| n.to_le_bytes()[n % 3]).collect::<Vec<u8>>().into()
}

async fn storage_contract(store: &LakeStore) {
    creates_once(store).await;
    one_of_many_creates(store).await;
    reads_ranges(store).await;
    lists_and_deletes(store).await;
    large_objects_come_whole_or_not_at_all(store).await;
}

async fn creates_once(store: &LakeStore) {
    assert_eq!(store.read("a/one").await.unwrap(), None);
    assert!(!store.exists("a/one").await.unwrap());
    assert_eq!(store.create("a/one", bytes("first")).await.unwrap(), Created::New);
    assert_eq!(store.create("a/one", bytes("second")).await.unwrap(), Created::Existing);
    assert_eq!(store.read("a/one").await.unwrap(), Some(bytes("first")));
    assert!(store.exists("a/one").await.unwrap());
    assert_eq!(store.create("a/empty", Bytes::new()).await.unwrap(), Created::New);
    assert_eq!(store.read("a/empty").await.unwrap(), Some(Bytes::new()));
}

async fn one_of_many_creates(store: &LakeStore) {
    for round in 0..5 {
        let key = format!("race/{round}");
        let tries = (0..16_u8).map(|n| {
            let (store, key) = (store.clone(), key.clone());
            let runtime = tokio::runtime::Handle::current();
            runtime.spawn(async move { (n, store.create(&key, Bytes::from(vec![n; 64])).await.unwrap()) })
        });
        let won: Vec<u8> = join_all(tries)
            .await
            .into_iter()
            .filter_map(|answer| Some(answer.unwrap()).filter(|(_, made)| *made == Created::New))
            .map(|(n, _)| n)
            .collect();
        assert_eq!(won.len(), 1, "{key}");
        assert_eq!(store.read(&key).await.unwrap().unwrap()[..], [won[0]; 64]);
    }
}

async fn reads_ranges(store: &LakeStore) {
    store.create("a/digits", bytes("0123456789")).await.unwrap();
    let input = store.file_io().new_input(store.url("a/digits")).unwrap();
    assert_eq!(input.metadata().await.unwrap().size, 10);
    let reader = input.reader().await.unwrap();
    assert_eq!(reader.read(3..7).await.unwrap(), bytes("3456"));
    assert!(reader.read(8..12).await.is_err(), "beyond the end is no short answer");
    assert!(store.file_io().new_input("s3://elsewhere/x").is_err());
}

async fn lists_and_deletes(store: &LakeStore) {
    assert_eq!(store.first_names_in("l").await.unwrap().first, None);
    for name in ["5", "3", "9", "4"] {
        store.create(&format!("l/{name}"), bytes("x")).await.unwrap();
    }
    store.create("l/sub/1", bytes("x")).await.unwrap();
    let mut names = store.names_in("l").await.unwrap();
    names.sort();
    assert_eq!(names, ["3", "4", "5", "9"]);
    assert_eq!(store.folders_in("l").await.unwrap(), ["sub"]);
    let first = store.first_names_in("l").await.unwrap();
    assert_eq!((first.first.as_deref(), first.second.as_deref()), (Some("3"), Some("4")));
    assert!(store.files_in("l").await.unwrap().iter().all(|(_, stored_us)| *stored_us > 0));
    store.delete("l/3").await.unwrap();
    store.delete("l/3").await.unwrap();
    assert_eq!(store.first_names_in("l").await.unwrap().first.as_deref(), Some("4"));
    assert_eq!(store.names_in("l").await.unwrap().len(), 3);
    assert_eq!(store.names_in("nothing/here").await.unwrap(), Vec::<String>::new());
}

async fn large_objects_come_whole_or_not_at_all(store: &LakeStore) {
    let large = large();
    assert_eq!(store.create("big/one", large.clone()).await.unwrap(), Created::New);
    assert_eq!(store.read("big/one").await.unwrap(), Some(large.clone()));
    assert_eq!(store.create("big/one", large.clone()).await.unwrap(), Created::Existing);

    let io = store.file_io();
    let mut writer = io.new_output(store.url("big/grown")).unwrap().writer().await.unwrap();
    for at in (0..large.len()).step_by(1 << 20) {
        writer.write(large.slice(at..large.len().min(at + (1 << 20)))).await.unwrap();
    }
    assert!(!store.exists("big/grown").await.unwrap(), "half an object is none");
    writer.close().await.unwrap();
    assert_eq!(store.read("big/grown").await.unwrap(), Some(large.clone()));

    let mut writer = io.new_output(store.url("big/dropped")).unwrap().writer().await.unwrap();
    writer.write(large.clone()).await.unwrap();
    drop(writer);
    assert!(!store.exists("big/dropped").await.unwrap());
    assert!(io.new_output(store.url("big/small")).unwrap().write(bytes("x")).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storage_contract_in_memory() {
    storage_contract(&LakeStore::new("memory:///lake", Arc::new(InMemory::new()))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storage_contract_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let store = LakeStore::open(folder.path().to_str().unwrap(), true).await.unwrap();
    storage_contract(&store).await;
    // A dropped upload leaves nothing; its file is removed beside the test, so it is looked for a few times.
    for _ in 0..1000 {
        let left = std::fs::read_dir(folder.path().join("big")).unwrap().count();
        if left == 3 {
            return;
        }
        tokio::task::yield_now().await;
        tokio::task::spawn_blocking(|| ()).await.unwrap();
    }
    panic!("an upload that was dropped is still there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storage_contract_on_moto() {
    let Some(moto) = Moto::start().await else { return };
    storage_contract(&moto.store("contract/deep").unwrap()).await;
    storage_contract(&LakeStore::in_bucket("s3://lake", &moto.env()).unwrap()).await;

    let gone = LakeStore::in_bucket("s3://no-such-bucket/x", &moto.env()).unwrap();
    let text = gone.read("_repo/format.json").await.unwrap_err().to_string();
    assert!(text.contains("aws s3 mb") && text.contains("s3://no-such-bucket/x"), "{text}");
    let text = gone.create("x", bytes("x")).await.unwrap_err().to_string();
    assert!(text.contains("aws s3 mb"), "{text}");
}

#[tokio::test]
async fn what_is_set_wrong_is_named() {
    let env = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let refusal = |location: &str, pairs: &[(&str, &str)]| {
        LakeStore::in_bucket(location, &env(pairs)).unwrap_err().to_string()
    };
    let text = refusal("s3://b/x", &[("AWS_ENDPOINT_URL", "http://127.0.0.1:9")]);
    assert!(text.contains("AWS_ALLOW_HTTP=true"), "{text}");
    let text = refusal("s3://b/x", &[("AWS_ACCESS_KEY_ID", "me")]);
    assert!(text.to_lowercase().contains("secretaccesskey"), "{text}");
    let text = refusal("az://c/x", &[]);
    assert!(text.contains("AZURE_STORAGE_ACCOUNT_NAME"), "{text}");
    let text = refusal("gs://b/x", &[("GOOGLE_APPLICATION_CREDENTIALS", "/no/such/key.json")]);
    assert!(text.contains("/no/such/key.json") || text.contains("No such file"), "{text}");

    let azure = [("AZURE_STORAGE_ACCOUNT_NAME", "acme"), ("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")];
    let store = LakeStore::in_bucket("az://c/x", &env(&azure)).unwrap();
    assert_eq!(store.location(), "abfss://c@acme.dfs.core.windows.net/x");
    let same = LakeStore::in_bucket("abfss://c@acme.dfs.core.windows.net/x/", &env(&azure[1..])).unwrap();
    assert_eq!(same.location(), store.location());

    // Nothing listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let keys = [
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ACCESS_KEY_ID", "x"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
    ];
    let store = LakeStore::in_bucket("s3://b/x", &env(&keys)).unwrap();
    let text = store.read("_repo/format.json").await.unwrap_err().to_string();
    assert!(text.contains("does not answer") && text.contains("AWS_ENDPOINT_URL"), "{text}");
}

#[tokio::test]
async fn half_an_answer_is_an_error() {
    let faults = Arc::new(FaultStore::new(Arc::new(InMemory::new())));
    let store = LakeStore::new("memory:///lake", Arc::clone(&faults) as Arc<dyn ObjectStore>);
    store.create("a/digits", bytes("0123456789")).await.unwrap();
    faults.set(Fault::TruncatedRead { key: "digits".to_owned() });
    let text = format!("{:?}", store.read("a/digits").await.unwrap_err());
    assert!(text.contains("came short: 5 bytes of 10"), "{text}");
    let input = store.file_io().new_input(store.url("a/digits")).unwrap();
    assert!(input.reader().await.unwrap().read(0..10).await.is_err());
}

#[tokio::test]
async fn a_torn_upload_leaves_nothing() {
    for parts in [0, 2, 5] {
        let memory = Arc::new(InMemory::new());
        let faults = Arc::new(FaultStore::new(Arc::clone(&memory) as Arc<dyn ObjectStore>));
        let store = LakeStore::new("memory:///lake", Arc::clone(&faults) as Arc<dyn ObjectStore>);
        faults.set(Fault::TornMultipart(parts));
        assert!(store.create("big", large()).await.is_err(), "{parts}");
        faults.set(Fault::None);
        assert!(!store.exists("big").await.unwrap());
        assert_eq!(store.create("big", large()).await.unwrap(), Created::New);
    }
}

#[tokio::test]
async fn a_full_disk_says_so() {
    let faults = Arc::new(FaultStore::new(Arc::new(InMemory::new())));
    let store = LakeStore::new("memory:///lake", Arc::clone(&faults) as Arc<dyn ObjectStore>);
    faults.set(Fault::Full);
    let error = store.create("x", bytes("x")).await.unwrap_err();
    assert!(
        matches!(error, LakeError::Trouble { trouble: Trouble { kind: TroubleKind::Full, .. }, .. }),
        "{error}"
    );
}
