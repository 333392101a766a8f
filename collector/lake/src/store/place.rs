//! Where a lake lies, as people write it, parsed once.
//!
//! A lake's URL stands in every Iceberg metadata file, so each place has one spelling, the one most readers of Iceberg
//! tables know: `s3a://` becomes `s3://`, and an Azure container is always named with its account.

use std::path::PathBuf;

use crate::error::LakeError;

/// A parsed location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A folder.
    Disk(PathBuf),
    /// A bucket of an object store, or its equal.
    Bucket {
        /// Whose.
        service: Service,
        /// Bucket or container.
        bucket: String,
        /// Azure: the storage account, where the location names it.
        account: Option<String>,
        /// Folder inside, without slashes at its ends; may be empty.
        prefix: String,
    },
}

/// Kinds of stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Service {
    /// A local or mounted disk.
    Disk,
    /// Amazon S3 and what speaks its language: MinIO, Ceph, R2.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

const DFS_HOST: &str = ".dfs.core.windows.net";
const BLOB_HOST: &str = ".blob.core.windows.net";

const FORMS: &str = "`/abs/folder`, `file:///abs/folder`, a relative path, `s3://bucket/prefix`, \
     `gs://bucket/prefix` or `az://container/prefix`";

impl Place {
    /// # Errors
    /// [`LakeError::Location`] names what to write instead.
    pub(crate) fn parse(location: &str) -> Result<Place, LakeError> {
        let refuse = |reason: String| LakeError::Location { location: location.to_owned(), reason };
        let Some((scheme, rest)) = location.split_once("://") else {
            if location.is_empty() {
                return Err(refuse(format!("it is empty: give {FORMS}")));
            }
            let path = std::path::absolute(location);
            return path.map(Place::Disk).map_err(|_| refuse("the working directory is gone".to_owned()));
        };
        let service = match scheme {
            "file" if rest.starts_with('/') => return Ok(Place::Disk(PathBuf::from(rest))),
            "file" => {
                let reason = "a file URL has three slashes, as in `file:///var/lib/headwater/lake`";
                return Err(refuse(reason.to_owned()));
            }
            "s3" | "s3a" => Service::S3,
            "gs" | "gcs" => Service::Gcs,
            "az" | "azure" | "abfs" | "abfss" => Service::Azure,
            _ => return Err(refuse(format!("{scheme}:// is not known here: give {FORMS}"))),
        };
        let (authority, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_end_matches('/');
        let (bucket, account) = match authority.split_once('@') {
            Some((container, host)) if service == Service::Azure => {
                let account = host.strip_suffix(DFS_HOST).or_else(|| host.strip_suffix(BLOB_HOST));
                let account = account.ok_or_else(|| {
                    refuse(format!("write the account as `abfss://container@ACCOUNT{DFS_HOST}/prefix`"))
                })?;
                (container, Some(account.to_owned()))
            }
            _ => (authority, None),
        };
        if !is_bucket(bucket) || account.as_deref().is_some_and(|account| !is_bucket(account)) {
            return Err(refuse(format!("{authority:?} is no bucket's name; it follows `{scheme}://`")));
        }
        if !prefix.is_empty() && !prefix.split('/').all(is_part) {
            let rule =
                "folders in a bucket are made of letters, digits and . _ - =, joined by single slashes";
            return Err(refuse(rule.to_owned()));
        }
        Ok(Place::Bucket { service, bucket: bucket.to_owned(), account, prefix: prefix.to_owned() })
    }
}

fn is_bucket(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// Signs that no store escapes and no reader takes for part of a URL's syntax.
fn is_part(part: &str) -> bool {
    !matches!(part, "" | "." | "..")
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'='))
}

/// The lake's URL on an Azure container.
#[cfg(feature = "azure")]
pub(super) fn azure_url(container: &str, account: &str) -> String {
    format!("abfss://{container}@{account}{DFS_HOST}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(service: Service, bucket: &str, account: Option<&str>, prefix: &str) -> Place {
        let account = account.map(str::to_owned);
        Place::Bucket { service, bucket: bucket.to_owned(), account, prefix: prefix.to_owned() }
    }

    #[test]
    fn locations_are_parsed_once() {
        assert_eq!(Place::parse("/a/b").unwrap(), Place::Disk("/a/b".into()));
        assert_eq!(Place::parse("file:///a/b").unwrap(), Place::Disk("/a/b".into()));
        assert!(matches!(Place::parse("lake").unwrap(), Place::Disk(path) if path.is_absolute()));
        assert_eq!(Place::parse("s3://b").unwrap(), bucket(Service::S3, "b", None, ""));
        assert_eq!(Place::parse("s3a://b-1/x/y/").unwrap(), bucket(Service::S3, "b-1", None, "x/y"));
        assert_eq!(Place::parse("gs://b/x").unwrap(), bucket(Service::Gcs, "b", None, "x"));
        assert_eq!(Place::parse("az://c/x").unwrap(), bucket(Service::Azure, "c", None, "x"));
        let full = "abfss://c@acme.dfs.core.windows.net/x";
        assert_eq!(Place::parse(full).unwrap(), bucket(Service::Azure, "c", Some("acme"), "x"));
    }

    #[test]
    fn other_forms_say_what_to_give_instead() {
        for (bad, told) in [
            ("", "s3://bucket/prefix"),
            ("ftp://host/x", "s3://bucket/prefix"),
            ("file://host/lake", "three slashes"),
            ("s3://", "bucket"),
            ("s3:///x", "bucket"),
            ("s3://b/../x", "single slashes"),
            ("s3://b//x", "single slashes"),
            ("s3://b/a b", "letters, digits"),
            ("s3://b/a%20b", "letters, digits"),
            ("s3://user@b/x", "bucket"),
            ("abfss://c@acme.example.com/x", "ACCOUNT.dfs.core.windows.net"),
        ] {
            let text = Place::parse(bad).unwrap_err().to_string();
            assert!(text.contains(told), "{bad}: {text}");
        }
    }
}
