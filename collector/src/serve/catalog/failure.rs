//! What went wrong, as clients of the protocol expect to be told: a status, the name of an exception, and words that
//! name the fix.

use crate::serve::access::Denied;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use headwater_lake::{CommitError, ForeignError, LakeError};
use serde_json::json;

/// An answer that is no success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::serve) struct Failure {
    pub(super) status: StatusCode,
    /// Name of the Java exception clients know.
    pub(super) kind: &'static str,
    pub(super) message: String,
}

impl Failure {
    pub(in crate::serve) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into() }
    }

    pub(in crate::serve) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequestException", message)
    }

    pub(in crate::serve) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "ForbiddenException", message)
    }

    pub(in crate::serve) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_ACCEPTABLE, "UnsupportedOperationException", message)
    }

    pub(in crate::serve) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailableException", message)
    }

    pub(in crate::serve) fn no_warehouse(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NoSuchWarehouseException", message)
    }

    pub(in crate::serve) fn no_namespace(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NoSuchNamespaceException", message)
    }

    pub(in crate::serve) fn no_table(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NoSuchTableException", message)
    }

    /// Nobody knows whether a commit was made: clients must neither retry it nor delete its files.
    pub(in crate::serve) fn unknown(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "CommitStateUnknownException", message)
    }

    /// The error as JSON.
    pub(in crate::serve) fn body(&self) -> String {
        json!({"error": {"message": self.message, "type": self.kind, "code": self.status.as_u16()}})
            .to_string()
    }
}

impl From<Denied> for Failure {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Unknown(text) => Self::new(StatusCode::UNAUTHORIZED, "NotAuthorizedException", text),
            Denied::Forbidden(text) => Self::forbidden(text),
        }
    }
}

impl From<ForeignError> for Failure {
    fn from(error: ForeignError) -> Self {
        let message = error.to_string();
        match error {
            ForeignError::Stale { .. } => Self::new(StatusCode::CONFLICT, "CommitFailedException", message),
            ForeignError::NoTable { .. } => Self::no_table(message),
            ForeignError::NoBranch => Self::no_namespace(message),
            ForeignError::TableExists { .. } => {
                Self::new(StatusCode::CONFLICT, "AlreadyExistsException", message)
            }
            ForeignError::Refused { .. } | ForeignError::Escape { .. } => Self::forbidden(message),
            _ => Self::bad_request(message),
        }
    }
}

impl From<LakeError> for Failure {
    fn from(error: LakeError) -> Self {
        match error {
            LakeError::Foreign(foreign) => foreign.into(),
            LakeError::UnknownRevision { .. } | LakeError::AmbiguousRevision { .. } => {
                Self::no_warehouse(error.to_string())
            }
            LakeError::Protected(_) => Self::forbidden(error.to_string()),
            LakeError::Name(_) | LakeError::Table(_) => Self::bad_request(error.to_string()),
            // The store is away: the same question may be asked again.
            LakeError::Store { .. } => Self::unavailable(chain(&error)),
            _ => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", chain(&error)),
        }
    }
}

impl From<CommitError> for Failure {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Failed { source, .. } => source.into(),
            other => Self::unknown(format!(
                "{other}; look at the table again before anything is retried, and delete no files"
            )),
        }
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}
