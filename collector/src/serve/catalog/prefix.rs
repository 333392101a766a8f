//! The prefix clients put into every path: which state of the lake they mean, in letters no URL has to escape.
//!
//! `b.<ref-key>` follows a branch, `t.<ref-key>` names a tag, `c.<commit-id>` one commit for ever. Clients get it from
//! `GET config` and do not look into it.

use crate::serve::access::Place;
use headwater_lake::{CommitId, RefName};
use std::fmt;

/// A state of the lake that clients read, and of branches write.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::serve) enum Target {
    /// Whatever the branch names when it is asked.
    Branch(RefName),
    /// A tag.
    Tag(RefName),
    /// A commit.
    Commit(CommitId),
}

impl Target {
    /// The target behind a prefix.
    pub(super) fn parse(prefix: &str) -> Option<Target> {
        let (kind, rest) = prefix.split_once('.')?;
        let name = || RefName::new(rest.replace('+', "/")).ok().filter(|name| name.key() == rest);
        match kind {
            "b" => name().map(Target::Branch),
            "t" => name().map(Target::Tag),
            "c" => CommitId::new(rest).ok().map(Target::Commit),
            _ => None,
        }
    }

    /// The prefix clients use.
    pub(super) fn prefix(&self) -> String {
        match self {
            Target::Branch(name) => format!("b.{}", name.key()),
            Target::Tag(name) => format!("t.{}", name.key()),
            Target::Commit(id) => format!("c.{id}"),
        }
    }

    /// Where that is, for whoever may read or write there.
    pub(in crate::serve) fn place(&self) -> Place {
        match self {
            Target::Branch(name) | Target::Tag(name) => Place::Named(name.clone()),
            Target::Commit(_) => Place::Pinned,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Branch(name) => write!(f, "branch {name}"),
            Target::Tag(name) => write!(f, "tag {name}"),
            Target::Commit(id) => write!(f, "commit {}", id.short()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn other_texts_are_no_prefix() {
        for text in ["", "main", "b.", "b.Main", "x.main", "c.00", "b.a/b", "b.a++b", "b.../x", "t.a b"] {
            assert_eq!(Target::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_target_has_one_prefix_and_comes_back_from_it(
            name in "[a-z0-9][a-z0-9._-]{0,8}(/[a-z0-9][a-z0-9._-]{0,8}){0,3}",
            digits in "[0-9a-f]{64}",
        ) {
            let name = RefName::new(name).unwrap();
            for target in [Target::Branch(name.clone()), Target::Tag(name), Target::Commit(CommitId::new(digits).unwrap())] {
                let prefix = target.prefix();
                prop_assert_eq!(Target::parse(&prefix), Some(target));
                // Nothing in it means something in a path.
                prop_assert!(prefix.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'+')));
            }
        }

        #[test]
        fn what_parses_is_what_is_handed_out(text in "[btc]\\.[a-z0-9+./-]{0,20}") {
            if let Some(target) = Target::parse(&text) {
                prop_assert_eq!(target.prefix(), text);
            }
        }
    }
}
