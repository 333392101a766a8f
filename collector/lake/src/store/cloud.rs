//! Live stores of the clouds: credentials from the environment as each SDK names them, TLS by rustls and ring, and bounds
//! on how long a request may take.

use std::sync::Arc;
use std::time::Duration;

use object_store::list::PaginatedListStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use super::place::Service;
use crate::error::LakeError;

/// A connection that does not come about within this will not: the round trip of the farthest region is below 0.4 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// One request with its body: a part of 8 MiB at 1 Mbit/s takes 67 s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(90);

/// Times the client repeats a request after a 5xx or a connection error. Each makes a create ambiguous, which the ref
/// log settles by reading.
const RETRIES_MAX: usize = 5;

/// After this a request is not begun again: well below the minutes for which a signature stays valid.
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);

/// First and longest pause between repeats: the first hides a dropped connection, the longest lets a partition split.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// A store as it was opened.
pub(super) struct Cloud {
    /// URL of the bucket, as Iceberg readers write it, without a slash at the end.
    pub(super) url: String,
    pub(super) objects: Arc<dyn ObjectStore>,
    pub(super) pages: Arc<dyn PaginatedListStore>,
}

/// Opens a bucket; `env` is the process environment.
pub(super) fn open(
    location: &str,
    service: Service,
    bucket: &str,
    account: Option<&str>,
    env: &[(String, String)],
) -> Result<Cloud, LakeError> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Losing the race against another thread that installs one is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
    }
    let refuse = |reason: String| LakeError::Location { location: location.to_owned(), reason };
    match service {
        Service::S3 => s3(bucket, env).map_err(refuse),
        Service::Gcs => gcs(bucket, env).map_err(refuse),
        Service::Azure => azure(bucket, account, env).map_err(refuse),
        Service::Disk => Err(refuse("a disk is no bucket".to_owned())),
    }
}

fn options() -> ClientOptions {
    ClientOptions::new().with_connect_timeout(CONNECT_TIMEOUT).with_timeout(REQUEST_TIMEOUT)
}

fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig { init_backoff: BACKOFF_FIRST, max_backoff: BACKOFF_MAX, base: 2.0 },
        max_retries: RETRIES_MAX,
        retry_timeout: RETRY_TIMEOUT,
    }
}

/// What the environment says beginning with `prefix`, as the builders' keys.
fn settings<'a, K: std::str::FromStr>(
    env: &'a [(String, String)],
    prefix: &'a str,
) -> impl Iterator<Item = (K, &'a str)> {
    let ours = env.iter().filter(move |(key, _)| key.starts_with(prefix));
    ours.filter_map(|(key, value)| Some((key.to_ascii_lowercase().parse().ok()?, value.as_str())))
}

/// Refuses a plain-text endpoint unless it was asked for: keys would travel for all to read.
fn plain_is_wanted(env: &[(String, String)], endpoints: &[&str], allow: &str) -> Result<(), String> {
    let value = |name: &str| env.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let plain =
        endpoints.iter().find_map(|name| Some((name, value(name).filter(|v| v.starts_with("http://"))?)));
    match plain {
        Some((name, url)) if value(allow) != Some("true") => Err(format!(
            "{name} is {url}, without TLS; set {allow}=true if that is meant, as for an emulator"
        )),
        _ => Ok(()),
    }
}

#[cfg(feature = "s3")]
fn s3(bucket: &str, env: &[(String, String)]) -> Result<Cloud, String> {
    use object_store::aws::AmazonS3Builder;
    plain_is_wanted(env, &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"], "AWS_ALLOW_HTTP")?;
    let builder = AmazonS3Builder::new().with_client_options(options()).with_retry(retries());
    let builder =
        settings(env, "AWS_").fold(builder, |builder, (key, value)| builder.with_config(key, value));
    let store = builder.with_bucket_name(bucket).build().map_err(|e| told(&e))?;
    Ok(cloud(format!("s3://{bucket}"), store))
}

#[cfg(feature = "gcs")]
fn gcs(bucket: &str, env: &[(String, String)]) -> Result<Cloud, String> {
    use object_store::gcp::GoogleCloudStorageBuilder;
    plain_is_wanted(env, &["GOOGLE_BASE_URL"], "GOOGLE_ALLOW_HTTP")?;
    let builder = GoogleCloudStorageBuilder::new().with_client_options(options()).with_retry(retries());
    let builder =
        settings(env, "GOOGLE_").fold(builder, |builder, (key, value)| builder.with_config(key, value));
    let store = builder.with_bucket_name(bucket).build().map_err(|e| told(&e))?;
    Ok(cloud(format!("gs://{bucket}"), store))
}

#[cfg(feature = "azure")]
fn azure(container: &str, account: Option<&str>, env: &[(String, String)]) -> Result<Cloud, String> {
    use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
    plain_is_wanted(env, &["AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"], "AZURE_ALLOW_HTTP")?;
    let builder = MicrosoftAzureBuilder::new().with_client_options(options()).with_retry(retries());
    let builder =
        settings(env, "AZURE_").fold(builder, |builder, (key, value)| builder.with_config(key, value));
    let told_account = builder.get_config_value(&AzureConfigKey::AccountName);
    let account = account.map(str::to_owned).or(told_account).ok_or_else(|| {
        "set AZURE_STORAGE_ACCOUNT_NAME, or write abfss://container@ACCOUNT.dfs.core.windows.net/prefix"
            .to_owned()
    })?;
    let builder = builder.with_account(&account).with_container_name(container);
    let store = builder.build().map_err(|e| told(&e))?;
    Ok(cloud(super::place::azure_url(container, &account), store))
}

#[cfg(not(feature = "s3"))]
fn s3(_: &str, _: &[(String, String)]) -> Result<Cloud, String> {
    Err(left_out("s3"))
}

#[cfg(not(feature = "gcs"))]
fn gcs(_: &str, _: &[(String, String)]) -> Result<Cloud, String> {
    Err(left_out("gcs"))
}

#[cfg(not(feature = "azure"))]
fn azure(_: &str, _: Option<&str>, _: &[(String, String)]) -> Result<Cloud, String> {
    Err(left_out("azure"))
}

#[cfg(not(all(feature = "s3", feature = "gcs", feature = "azure")))]
pub(super) fn left_out(feature: &str) -> String {
    format!("this build cannot reach it: build headwater-lake with the cargo feature `{feature}`")
}

fn cloud<S: ObjectStore + PaginatedListStore>(url: String, store: S) -> Cloud {
    let store = Arc::new(store);
    Cloud { url, objects: Arc::clone(&store) as Arc<dyn ObjectStore>, pages: store }
}

/// What a builder did not like, with its causes.
fn told(error: &object_store::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
