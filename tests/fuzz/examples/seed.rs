//! Puts what each decoder takes into its target's corpus.

#[path = "../../support/decoders/mod.rs"]
mod decoders;

use std::path::Path;
use std::{fs, io};

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for decoder in decoders::ALL {
        let directory = corpus.join(decoder.name);
        fs::create_dir_all(&directory)?;
        for (number, seed) in (decoder.seeds)().iter().enumerate() {
            fs::write(directory.join(format!("seed-{number:03}")), seed)?;
        }
    }
    Ok(())
}
