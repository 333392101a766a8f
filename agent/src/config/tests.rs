//! Every sample of `tests/golden/config` is read: valid ones pass, invalid ones say exactly their text.

use super::*;
use std::collections::BTreeSet;
use std::path::PathBuf;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/config").join(name)
}

fn read_sample(file: &Path) -> Result<Settings, Mistakes> {
    let text = std::fs::read_to_string(file).unwrap();
    read(&text, Path::new("/etc/headwater"), &|path| {
        if path.to_string_lossy().contains("missing") { Err("no such file".into()) } else { Ok(()) }
    })
}

fn samples(name: &str) -> Vec<PathBuf> {
    let files: BTreeSet<PathBuf> =
        std::fs::read_dir(folder(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.into_iter().collect()
}

#[test]
fn every_valid_sample_passes() {
    let files = samples("valid");
    assert!(files.len() >= 3);
    for file in files {
        assert_eq!(file.extension().unwrap(), "toml", "{}", file.display());
        let settings = read_sample(&file).unwrap_or_else(|mistakes| panic!("{}: {mistakes}", file.display()));
        assert!(settings.status_file.is_absolute());
    }
}

#[test]
fn every_invalid_sample_gives_its_text() {
    let files = samples("invalid");
    let (texts, configs): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|file| file.extension().is_some_and(|e| e == "txt"));
    assert_eq!(texts.len(), configs.len(), "each sample has its text and each text its sample");
    assert!(configs.len() >= 5);
    for file in configs {
        let expected_file = file.with_extension("txt");
        let found = read_sample(&file).expect_err("an invalid sample").to_string();
        if std::env::var_os("HEADWATER_GOLDEN_WRITE").is_some() {
            std::fs::write(&expected_file, &found).unwrap();
        }
        let expected = std::fs::read_to_string(&expected_file).unwrap();
        assert_eq!(found, expected, "{}", file.display());
    }
}

#[test]
fn the_whole_raw_form_is_what_serde_reads_too() {
    for file in samples("valid") {
        let text = std::fs::read_to_string(&file).unwrap();
        toml::from_str::<raw::RawConfig>(&text).unwrap();
    }
}
