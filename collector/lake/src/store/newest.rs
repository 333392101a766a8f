//! The first name of a folder, without listing it all: what the ref log is asked for at every start.

use std::path::Path as DiskPath;
use std::sync::Arc;

use object_store::list::{PaginatedListOptions, PaginatedListStore};

use super::LakeStore;
use crate::error::LakeError;

/// Names asked for: the first, and one more to see that the store sorts.
const NAMES_MAX: usize = 2;

/// Pages a store may give without a name in them before the whole folder is listed instead.
const EMPTY_PAGES_MAX: usize = 4;

/// A store that lists page by page, with the lake's folder in it.
#[derive(Clone)]
pub(crate) struct Pages {
    store: Arc<dyn PaginatedListStore>,
    prefix: String,
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pages({:?})", self.prefix)
    }
}

impl Pages {
    pub(crate) fn new(store: Arc<dyn PaginatedListStore>, prefix: &str) -> Pages {
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Pages { store, prefix }
    }

    /// The first names of a folder as the store orders them; none if it keeps giving empty pages.
    async fn first(&self, folder: &str) -> object_store::Result<Option<Vec<String>>> {
        let prefix = format!("{}{folder}/", self.prefix);
        let mut page_token = None;
        for _ in 0..EMPTY_PAGES_MAX {
            let options = PaginatedListOptions {
                max_keys: Some(NAMES_MAX),
                page_token,
                ..PaginatedListOptions::default()
            };
            let page = self.store.list_paginated(Some(&prefix), options).await?;
            let names: Vec<String> =
                page.result.objects.iter().filter_map(|o| o.location.filename().map(str::to_owned)).collect();
            if !names.is_empty() || page.page_token.is_none() {
                return Ok(Some(names));
            }
            page_token = page.page_token;
        }
        Ok(None)
    }
}

/// The first two names of a folder in the order of their bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct FirstNames {
    /// The first, if there is any.
    pub(crate) first: Option<String>,
    /// The second, if there is one.
    pub(crate) second: Option<String>,
}

impl FirstNames {
    fn of(names: impl IntoIterator<Item = String>) -> FirstNames {
        let mut found = FirstNames::default();
        for name in names {
            if found.first.as_ref().is_none_or(|first| name < *first) {
                found.second = found.first.replace(name);
            } else if found.second.as_ref().is_none_or(|second| name < *second) {
                found.second = Some(name);
            }
        }
        found
    }
}

impl LakeStore {
    /// The first two names of files directly below a folder key: one small request where the store sorts its listings,
    /// else the minimum over all of it.
    pub(crate) async fn first_names_in(&self, folder: &str) -> Result<FirstNames, LakeError> {
        if let Some(root) = &self.inner.root {
            return on_disk(root.join(folder), folder).await;
        }
        if let Some(pages) = &self.inner.pages {
            let found = pages.first(folder).await.map_err(|e| self.failed("list", folder, e))?;
            match found.as_deref() {
                Some([]) => return Ok(FirstNames::default()),
                Some([only]) => return Ok(FirstNames::of([only.clone()])),
                Some([first, second, ..]) if first < second => {
                    return Ok(FirstNames { first: Some(first.clone()), second: Some(second.clone()) });
                }
                // Some stores list in no order (S3 Express); then nothing is known before all is listed.
                _ => tracing::debug!(folder, "the store does not sort its listings"),
            }
        }
        Ok(FirstNames::of(self.names_in(folder).await?))
    }
}

/// A folder read directly: names only, while a listing through the store looks at every file.
async fn on_disk(path: std::path::PathBuf, folder: &str) -> Result<FirstNames, LakeError> {
    let names = tokio::task::spawn_blocking(move || names_of(&path))
        .await
        .map_err(|source| LakeError::Task { task: "the listing of a folder", source })?;
    names.map_err(|e| {
        LakeError::store("list", folder, object_store::Error::Generic { store: "disk", source: Box::new(e) })
    })
}

fn names_of(path: &DiskPath) -> std::io::Result<FirstNames> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(FirstNames::default()),
        Err(e) => return Err(e),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        // `name#1` is a write that did not end.
        if let Some(name) = name.to_str().filter(|name| !name.contains('#')) {
            names.push(name.to_owned());
        }
    }
    Ok(FirstNames::of(names))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_smallest_are_found_in_any_order() {
        let of = |names: &[&str]| FirstNames::of(names.iter().map(|name| (*name).to_owned()));
        assert_eq!(of(&[]), FirstNames::default());
        for order in [["a", "b", "c"], ["c", "b", "a"], ["b", "a", "c"], ["b", "c", "a"], ["c", "a", "b"]] {
            let found = of(&order);
            assert_eq!(
                (found.first.as_deref(), found.second.as_deref()),
                (Some("a"), Some("b")),
                "{order:?}"
            );
        }
    }
}
