//! What the device itself does below a directory: files written from end to end, each synced with its directory, and
//! short appends to one file, each synced.
//!
//! `cargo bench --bench raw_device -- --dir DIR --files 10 --bytes 8388608 --appends 200` prints one line of JSON.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a bench measures, and fails by panicking")]

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

const APPEND_BYTES: usize = 4096;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let flag = |name: &str| arguments.iter().position(|a| a == name).map(|at| arguments[at + 1].clone());
    let number = |name: &str, default: usize| flag(name).map_or(default, |text| text.parse().unwrap());
    let (files, bytes, appends) = (number("--files", 2), number("--bytes", 1 << 20), number("--appends", 10));
    let below = flag("--dir").unwrap_or_else(|| std::env::temp_dir().display().to_string());
    let directory = tempfile::tempdir_in(below).unwrap();
    // Not zeros, which a device may treat better than others.
    let mut state = 7_u64;
    let mut word = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        state
    };
    let data: Vec<u8> = (0..bytes.div_ceil(8)).flat_map(|_| word().to_le_bytes()).collect();

    let started = Instant::now();
    for number in 0..files {
        write_file(directory.path(), &format!("file-{number}"), &data[..bytes]);
    }
    let seconds = started.elapsed().as_secs_f64();
    let started = Instant::now();
    append(directory.path(), appends);
    let appending = started.elapsed().as_secs_f64();
    println!(
        "{{\"files\":{files},\"bytes\":{bytes},\"mb_s\":{:.2},\"files_s\":{:.2},\"appends_s\":{:.1}}}",
        (files * bytes) as f64 / seconds / 1e6,
        files as f64 / seconds,
        appends as f64 / appending
    );
}

fn write_file(directory: &Path, name: &str, data: &[u8]) {
    let mut file = File::create_new(directory.join(name)).unwrap();
    file.write_all(data).unwrap();
    file.sync_all().unwrap();
    File::open(directory).unwrap().sync_all().unwrap();
}

fn append(directory: &Path, times: usize) {
    let mut file = File::create_new(directory.join("appended")).unwrap();
    for _ in 0..times {
        file.write_all(&[7; APPEND_BYTES]).unwrap();
        file.sync_data().unwrap();
    }
}
