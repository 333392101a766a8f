//! Lines of history as columns of signs: a star per commit, a bar per line that goes on beside it.

use headwater_lake::CommitId;

/// Draws commits, newest first, each with its parents.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// The commit each column waits for.
    waiting: Vec<CommitId>,
}

impl Lanes {
    /// The signs of one commit. Its first parent goes on in its column, others get columns of their own.
    pub(super) fn draw(&mut self, id: &CommitId, parents: &[CommitId]) -> String {
        let place = self.waiting.iter().position(|waits| waits == id).unwrap_or_else(|| {
            self.waiting.push(id.clone());
            self.waiting.len() - 1
        });
        let signs: Vec<&str> =
            (0..self.waiting.len()).map(|column| if column == place { "*" } else { "|" }).collect();
        let drawn = signs.join(" ");
        // Every column that waited for this commit ends here; its parents go on.
        let mut parents = parents.iter();
        match parents.next() {
            Some(first) if !self.waiting.contains(first) => {
                if let Some(column) = self.waiting.get_mut(place) {
                    column.clone_from(first);
                }
            }
            _ => {}
        }
        self.waiting.retain(|waits| waits != id);
        for parent in parents {
            if !self.waiting.contains(parent) {
                self.waiting.push(parent.clone());
            }
        }
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> CommitId {
        format!("{n:02x}").repeat(32).parse().unwrap()
    }

    #[test]
    fn a_merge_opens_a_column_and_the_base_closes_it() {
        let mut lanes = Lanes::default();
        let drawn: Vec<String> = [(5, vec![4, 3]), (4, vec![2]), (3, vec![2]), (2, vec![1]), (1, vec![])]
            .into_iter()
            .map(|(n, parents)| lanes.draw(&id(n), &parents.into_iter().map(id).collect::<Vec<_>>()))
            .collect();
        assert_eq!(drawn, ["*", "* |", "| *", "*", "*"]);
    }
}
