//! Man page and shell completions, made of the command line itself; packages hold them.

use super::Cli;
use anyhow::{Context, Result};
use clap::{CommandFactory, ValueEnum};
use clap_complete::Shell;
use std::io::{self, Write};

/// What can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Generated {
    /// The man page, section 1, with all verbs.
    Man,
    /// Completions.
    Bash,
    /// Completions.
    Zsh,
    /// Completions.
    Fish,
}

/// Writes it to standard output.
pub(super) fn generate(what: Generated) -> Result<()> {
    let mut text = Vec::new();
    match what {
        Generated::Man => man(&mut text).context("failed to make the man page")?,
        Generated::Bash => complete(Shell::Bash, &mut text),
        Generated::Zsh => complete(Shell::Zsh, &mut text),
        Generated::Fish => complete(Shell::Fish, &mut text),
    }
    io::stdout().lock().write_all(&text).map_err(|error| super::OutputError(error).into())
}

fn complete(shell: Shell, out: &mut Vec<u8>) {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, out);
}

/// One page: the verbs follow each other, since nobody looks for `headwater-agent-spool-ls(1)`.
fn man(out: &mut Vec<u8>) -> io::Result<()> {
    let mut command = Cli::command();
    command.build();
    let page = clap_mangen::Man::new(command.clone());
    page.render_title(out)?;
    page.render_name_section(out)?;
    page.render_synopsis_section(out)?;
    page.render_description_section(out)?;
    page.render_options_section(out)?;
    verbs(&command, out)?;
    writeln!(out, ".SH FILES\n.TP\n/etc/headwater/agent.toml\nConfiguration.")?;
    writeln!(out, ".TP\n/var/lib/headwater\nSpool, certificates and keys.")?;
    writeln!(
        out,
        ".SH EXIT STATUS\n0: well; 1: it failed, or there is something to mend; 2: wrong arguments."
    )
}

fn verbs(command: &clap::Command, out: &mut Vec<u8>) -> io::Result<()> {
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        let name = verb.get_bin_name().unwrap_or(verb.get_name()).to_owned();
        writeln!(out, ".SH {}", name.to_uppercase().replace('-', "\\-"))?;
        let page = clap_mangen::Man::new(verb.clone());
        let mut part = Vec::new();
        page.render_synopsis_section(&mut part)?;
        page.render_description_section(&mut part)?;
        page.render_options_section(&mut part)?;
        // Sections of a verb are parts of its section.
        out.extend_from_slice(String::from_utf8_lossy(&part).replace(".SH ", ".SS ").as_bytes());
        verbs(verb, out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_and_completions_know_every_verb() {
        let text = |make: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            make(&mut out);
            String::from_utf8(out).unwrap()
        };
        let page = text(&|out| man(out).unwrap());
        assert!(page.contains(".TH headwater"), "{page}");
        let completions =
            [Shell::Bash, Shell::Zsh, Shell::Fish].map(|shell| text(&|out| complete(shell, out)));
        let command = Cli::command();
        for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let name = verb.get_name();
            let head = format!(".SH HEADWATER\\-AGENT {}\n", name.to_uppercase().replace('-', "\\-"));
            assert!(page.contains(&head), "{name}");
            assert!(completions.iter().all(|text| text.contains(name)), "{name}");
        }
        assert!(!page.contains(".SH HEADWATER\\-AGENT GENERATE"), "hidden verbs stay hidden");
    }
}
