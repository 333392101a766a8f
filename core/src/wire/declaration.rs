//! Declaration: a stream's id, name and canonical schema, before its first use.

use super::primitives::{Reader, put_bytes, put_uv};
use super::records::{RecordError, read_stream_id};
use crate::id::{STREAM_NAME_BYTES_MAX, StreamId, StreamName};
use crate::schema::{CANONICAL_BYTES_MAX, Schema, SchemaError};

/// What a stream id stands for in its epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declaration {
    /// Id, dense from 1.
    pub stream: StreamId,
    /// Name.
    pub name: StreamName,
    /// Schema.
    pub schema: Schema,
}

/// A declaration that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeclarationError {
    /// Malformed.
    #[error("declaration is malformed")]
    Record(#[from] RecordError),
    /// The schema breaks a rule.
    #[error("declaration holds no valid schema")]
    Schema(#[from] SchemaError),
    /// The stream's name breaks its rule.
    #[error("declaration names no valid stream")]
    Name(#[from] crate::id::NameError),
}

impl From<super::primitives::PrimitiveError> for DeclarationError {
    fn from(error: super::primitives::PrimitiveError) -> Self {
        Self::Record(error.into())
    }
}

impl Declaration {
    /// Body bytes.
    #[must_use]
    pub fn to_body(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_uv(&mut out, self.stream.0.into());
        put_bytes(&mut out, self.name.as_str().as_bytes());
        put_bytes(&mut out, &self.schema.canonical());
        out
    }

    /// Reads a body.
    ///
    /// # Errors
    /// [`DeclarationError`] names what is wrong.
    pub fn from_body(body: &[u8]) -> Result<Self, DeclarationError> {
        let mut reader = Reader::new(body);
        let stream = read_stream_id(&mut reader)?;
        let name = reader.text(STREAM_NAME_BYTES_MAX)?.parse()?;
        let schema = Schema::from_canonical(reader.bytes(CANONICAL_BYTES_MAX)?)?;
        reader.finish()?;
        Ok(Self { stream, name, schema })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::builtin;

    #[test]
    fn a_declaration_reads_back_and_damage_is_named() {
        let declaration = Declaration {
            stream: StreamId(4),
            name: "camera/front".parse().unwrap(),
            schema: builtin::image(),
        };
        let body = declaration.to_body();
        assert_eq!(Declaration::from_body(&body), Ok(declaration));
        for cut in 0..body.len() {
            assert!(Declaration::from_body(&body[..cut]).is_err());
        }
    }
}
