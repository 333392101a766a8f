//! Why a store did not do what it was asked, and what a person can do about it.
//!
//! Stores answer in status codes and XML; whoever set a key wrong wants the name of the variable. What is recognised here
//! gets such words, everything else stays the store's own error.

use std::error::Error;
use std::fmt;
use std::io::ErrorKind;

use super::place::Service;

/// A cause that a person can remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trouble {
    /// What kind.
    pub kind: TroubleKind,
    /// Whose.
    pub service: Service,
}

/// Kinds of causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TroubleKind {
    /// Nothing answers, or not in time.
    Unreachable,
    /// No credentials were found anywhere.
    NoCredentials,
    /// The credentials are wrong.
    WrongCredentials,
    /// The credentials are right and do not suffice.
    Forbidden,
    /// The bucket or container does not exist.
    NoBucket,
    /// The bucket is in another region.
    WrongRegion,
    /// The store refuses for being asked too much, after all retries.
    Busy,
    /// The disk is full.
    Full,
    /// The disk cannot be written.
    ReadOnly,
}

impl Trouble {
    /// The cause behind a store's answer, if it is one of those known.
    pub(super) fn of(service: Service, error: &object_store::Error) -> Option<Trouble> {
        kind_of(error).map(|kind| Trouble { kind, service })
    }
}

fn kind_of(error: &object_store::Error) -> Option<TroubleKind> {
    use TroubleKind::{
        Busy, Forbidden, Full, NoBucket, NoCredentials, ReadOnly, Unreachable, WrongCredentials, WrongRegion,
    };
    if let Some(kind) =
        chain(error).find_map(|cause| cause.downcast_ref::<std::io::Error>()).map(|e| e.kind())
    {
        match kind {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => return Some(Full),
            ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => return Some(ReadOnly),
            _ => {}
        }
    }
    let text = chain(error).map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    // By the stores' own error codes first: S3 answers 403 to a wrong key and to a missing permission alike.
    if has(&["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist"]) {
        return Some(NoBucket);
    }
    if has(&[
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "ExpiredToken",
        "InvalidToken",
        "AuthenticationFailed",
        "invalid_grant",
    ]) {
        return Some(WrongCredentials);
    }
    // Asking the machine for its role is the last thing tried, so failing there means that nothing was set.
    if has(&["169.254.169.254", "169.254.170.2", "metadata.google.internal", "instance metadata"]) {
        return Some(NoCredentials);
    }
    if has(&["incorrectly configured region", "PermanentRedirect", "AuthorizationHeaderMalformed"]) {
        return Some(WrongRegion);
    }
    if has(&["SlowDown", "503 Service Unavailable", "429 Too Many Requests"]) {
        return Some(Busy);
    }
    match error {
        object_store::Error::Unauthenticated { .. } => return Some(WrongCredentials),
        object_store::Error::PermissionDenied { .. } => return Some(Forbidden),
        _ => {}
    }
    let no_answer = ["error trying to connect", "error sending request", "operation timed out", "dns error"];
    has(&no_answer).then_some(Unreachable)
}

/// An error and all that lie under it.
fn chain(error: &object_store::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let first: &(dyn Error + 'static) = error;
    std::iter::successors(Some(first), |error| Error::source(*error))
}

/// True for a missing object, false for a missing bucket, which stores answer with the same code.
pub(super) fn is_absent(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotFound { .. }) && kind_of(error) != Some(TroubleKind::NoBucket)
}

/// Words for one service.
struct Words {
    credentials: &'static str,
    endpoint: &'static str,
    rights: &'static str,
    make_bucket: &'static str,
}

fn words(service: Service) -> Words {
    match service {
        Service::Disk => Words {
            credentials: "the user this runs as",
            endpoint: "that the disk is mounted",
            rights: "read and write permission on the folder",
            make_bucket: "make the folder first",
        },
        Service::S3 => Words {
            credentials: "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (with AWS_SESSION_TOKEN if they are temporary)",
            endpoint: "AWS_ENDPOINT_URL and AWS_REGION",
            rights: "s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload and s3:ListBucket",
            make_bucket: "make it first (aws s3 mb s3://NAME)",
        },
        Service::Gcs => Words {
            credentials: "GOOGLE_APPLICATION_CREDENTIALS, the path of a service account's key",
            endpoint: "GOOGLE_BASE_URL, if it is set",
            rights: "the role Storage Object Admin on the bucket",
            make_bucket: "make it first (gcloud storage buckets create gs://NAME)",
        },
        Service::Azure => Words {
            credentials: "AZURE_STORAGE_ACCOUNT_KEY, or AZURE_CLIENT_ID, AZURE_CLIENT_SECRET and AZURE_TENANT_ID",
            endpoint: "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ENDPOINT",
            rights: "the role Storage Blob Data Contributor on the container",
            make_bucket: "make it first (az storage container create --name NAME)",
        },
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Words { credentials, endpoint, rights, make_bucket } = words(self.service);
        match self.kind {
            TroubleKind::Unreachable => {
                write!(f, "the store does not answer; check the network, and {endpoint}")
            }
            TroubleKind::NoCredentials => {
                write!(f, "no credentials were found; set {credentials}, or run where a role gives them")
            }
            TroubleKind::WrongCredentials => {
                write!(f, "the store refuses the credentials; check {credentials}")
            }
            TroubleKind::Forbidden => write!(f, "the credentials do not suffice; a lake needs {rights}"),
            TroubleKind::NoBucket => write!(f, "there is no such bucket; {make_bucket}"),
            TroubleKind::WrongRegion => {
                write!(f, "the bucket is in another region; set AWS_REGION to its own")
            }
            TroubleKind::Busy => {
                write!(f, "the store asks to slow down, and did so after every retry; try again later")
            }
            TroubleKind::Full => write!(f, "no space is left on the disk; what was committed is untouched"),
            TroubleKind::ReadOnly => write!(f, "the disk refuses to be written; it needs {rights}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: text.to_owned().into() }
    }

    fn text(service: Service, error: &object_store::Error) -> String {
        Trouble::of(service, error).map(|trouble| trouble.to_string()).unwrap_or_default()
    }

    #[test]
    fn causes_name_their_fix() {
        let full = object_store::Error::Generic {
            store: "LocalFileSystem",
            source: Box::new(std::io::Error::from(ErrorKind::StorageFull)),
        };
        assert!(text(Service::Disk, &full).contains("no space is left"));
        let path = String::new;
        let missing = object_store::Error::NotFound { path: path(), source: "404: NoSuchBucket".into() };
        assert!(text(Service::S3, &missing).contains("aws s3 mb"));
        assert!(!is_absent(&missing));
        let missing = object_store::Error::NotFound { path: path(), source: "404: NoSuchKey".into() };
        assert!(is_absent(&missing) && text(Service::S3, &missing).is_empty());
        let wrong = "403 Forbidden: <Code>SignatureDoesNotMatch</Code>";
        let wrong = object_store::Error::PermissionDenied { path: path(), source: wrong.into() };
        assert!(text(Service::S3, &wrong).contains("AWS_SECRET_ACCESS_KEY"));
        let denied = "403 Forbidden: <Code>AccessDenied</Code>";
        let denied = object_store::Error::PermissionDenied { path: path(), source: denied.into() };
        assert!(text(Service::S3, &denied).contains("s3:ListBucket"));
        assert!(text(Service::Gcs, &denied).contains("Storage Object Admin"));
        let none = generic("Error performing PUT http://169.254.169.254/latest/api/token in 3s");
        assert!(text(Service::S3, &none).contains("set AWS_ACCESS_KEY_ID"));
        assert!(text(Service::Azure, &none).contains("AZURE_STORAGE_ACCOUNT_KEY"));
        let gone = generic("error sending request for url (http://127.0.0.1:1/b)");
        assert!(text(Service::S3, &gone).contains("AWS_ENDPOINT_URL"));
        assert!(text(Service::S3, &generic("503 Service Unavailable: SlowDown")).contains("slow down"));
        assert_eq!(Trouble::of(Service::S3, &generic("something else")), None);
    }
}
