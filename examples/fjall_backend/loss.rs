//! What a kill takes with it of the local disks.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use drystone::Result;
use rand::RngExt;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

use crate::database::failed;
use crate::run::{COPIES, LINKS};

/// Of the snapshots that a run has linked together, and of the worker's copies of its files.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    Nothing,
    Links,
    Copies,
    LinksAndHalfOfCopies,
    LinksAndCopies,
}

impl Loss {
    /// The next one; each comes once before any comes again. `deck` has what is left of a round.
    pub fn next(deck: &mut Vec<Self>, random: &mut SmallRng) -> Self {
        if deck.is_empty() {
            *deck = vec![Self::Nothing, Self::Links, Self::Copies, Self::LinksAndHalfOfCopies, Self::LinksAndCopies];
            deck.shuffle(random);
        }
        deck.pop().unwrap_or(Self::Nothing)
    }

    pub fn strike(self, directory: &Path, random: &mut SmallRng) -> Result<()> {
        if matches!(self, Self::Links | Self::LinksAndHalfOfCopies | Self::LinksAndCopies) {
            remove(&directory.join(LINKS))?;
        }
        for copies in COPIES.map(|copies| directory.join(copies)) {
            match self {
                Self::Copies | Self::LinksAndCopies => remove(&copies)?,
                Self::LinksAndHalfOfCopies => damage(&copies, random)?,
                Self::Nothing | Self::Links => {}
            }
        }
        Ok(())
    }
}

fn remove(directory: &Path) -> Result<()> {
    if directory.exists() { fs::remove_dir_all(directory).map_err(|e| failed(directory.display(), e)) } else { Ok(()) }
}

/// Of four files below a directory one goes, and one is cut.
fn damage(directory: &Path, random: &mut SmallRng) -> Result<()> {
    let entries = fs::read_dir(directory).map_err(|e| failed(directory.display(), e))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        let damaged = match random.random_range(0..4) {
            _ if path.is_dir() => {
                damage(&path, random)?;
                continue;
            }
            0 => fs::remove_file(&path),
            1 => path.metadata().and_then(|is| OpenOptions::new().write(true).open(&path)?.set_len(is.len() / 2)),
            _ => continue,
        };
        damaged.map_err(|e| failed(path.display(), e))?;
    }
    Ok(())
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "all is there",
            Self::Links => "without links",
            Self::Copies => "without copies",
            Self::LinksAndHalfOfCopies => "without links and half of the copies",
            Self::LinksAndCopies => "from the store alone",
        })
    }
}
