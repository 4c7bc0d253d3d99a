//! What a kill takes with it of the local disks, as the seed has it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use drystone::Result;
use rand::rngs::SmallRng;
use rand::seq::{IndexedMutRandom, SliceRandom};

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

    /// Afterwards some copies are gone, or all.
    pub fn hits_copies(self) -> bool {
        matches!(self, Self::Copies | Self::LinksAndHalfOfCopies | Self::LinksAndCopies)
    }

    pub fn strike(self, directory: &Path, random: &mut SmallRng) -> Result<()> {
        if matches!(self, Self::Links | Self::LinksAndHalfOfCopies | Self::LinksAndCopies) {
            remove(&directory.join(LINKS))?;
        }
        // A run that was killed at once may not have made them.
        let copies: Vec<PathBuf> =
            COPIES.iter().map(|copies| directory.join(copies)).filter(|copies| copies.exists()).collect();
        match self {
            Self::Copies | Self::LinksAndCopies => copies.iter().try_for_each(|copies| remove(copies)),
            Self::LinksAndHalfOfCopies => damage(copies, random),
            Self::Nothing | Self::Links => Ok(()),
        }
    }
}

fn remove(directory: &Path) -> Result<()> {
    fs::remove_dir_all(directory).map_err(|e| failed(directory.display(), e))
}

/// Every other file below the directories goes, and one of those that stay has a byte changed.
fn damage(mut directories: Vec<PathBuf>, random: &mut SmallRng) -> Result<()> {
    let mut copies = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).map_err(|e| failed(directory.display(), e))? {
            let path = entry.map_err(|e| failed(directory.display(), e))?.path();
            let found = if path.is_dir() { &mut directories } else { &mut copies };
            found.push(path);
        }
    }
    copies.retain(|path| path.extension().is_none_or(|extension| extension != "lock"));
    copies.sort();
    copies.shuffle(random);
    for (number, path) in copies.iter().enumerate() {
        let change = |mut bytes: Vec<u8>| {
            bytes.choose_mut(random).into_iter().for_each(|byte| *byte ^= 1);
            fs::write(path, bytes)
        };
        let damaged = match number {
            0 => fs::read(path).and_then(change),
            odd if odd % 2 == 1 => fs::remove_file(path),
            _ => Ok(()),
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
            Self::LinksAndHalfOfCopies => "without links, half of the copies gone, one damaged",
            Self::LinksAndCopies => "from the store alone",
        })
    }
}
