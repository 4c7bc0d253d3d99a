//! The catalogue as a page to read.

use super::catalogue::CATALOGUE;
use super::{ConfigOption, User};

const HEAD: &str = "\
# Configuration

<!-- Generated. Change src/config/catalogue.rs, then: DRYSTONE_WRITE_REFERENCE=1 cargo test --test config_reference -->

Options are read from Flink's `config.yaml` (nested or flat), from the older `flink-conf.yaml`, or from a map. Keys below
`execution.` are Flink's own, with its defaults, older keys and syntax; those below `drystone.` are ours.
`drystone config check FILE` says what a file amounts to, and what is wrong with it.

The option's own key counts first, then its older keys in the order of the table. Of an older key that isn't deprecated,
an option takes its value, but the key stays an option of its own.

| Type | Written |
|---|---|
| bool | `true` or `false` in any case, without blanks |
| int, bytes | a whole number; bytes have no unit |
| float | `2`, `1.5`, `2f`, `1e1`, `NaN`, `Infinity` |
| memory | digits, then nothing (bytes) or `b`, `kb`, `mb`, `gb`, `tb`, of 1,024 each |
| duration | digits, then nothing (milliseconds) or `d`, `h`, `min`, `s`, `ms`, `µs`, `ns`; or ISO-8601, as in `PT1H30M` |
| enum | one of the names, in any case |
| path | absolute: `/x`, `file:/x`, `s3://bucket/x`; credentials come from the environment, never from here |
| paths | absolute local paths, separated by commas or colons without blanks; in YAML, a list |

";

const USERS: [(User, &str); 4] = [
    (User::Storage, "Drystone's storage layer"),
    (User::Scheduler, "`schedule` and `driver`, or whoever else triggers checkpoints and restores them"),
    (User::Engine, "other parts of a stream processor; Drystone reads and checks it, and hands it on"),
    (User::Carried, "read, checked and carried for the caller; nothing here acts on it yet"),
];

/// The reference of all options, in Markdown: `design/configuration.md`.
pub fn reference() -> String {
    let mut page = HEAD.to_string();
    page += "| User | Who acts on it |\n|---|---|\n";
    for (user, who) in USERS {
        page += &format!("| {user} | {who} |\n");
    }
    let mut group = "";
    for option in CATALOGUE {
        if option.group != group {
            group = option.group;
            page += &format!("\n## {group}\n\n| Key | Type | Default | User | Meaning |\n|---|---|---|---|---|\n");
        }
        page += &row(option);
    }
    page
}

fn row(option: &ConfigOption) -> String {
    let ConfigOption { key, kind, user, sentence, .. } = option;
    let default = option.default_value().map_or_else(|| "-".to_string(), |value| format!("`{value}`"));
    let older = option.older.iter().map(|older| match older.deprecated {
        true => format!("<br>deprecated: `{}`", older.key),
        false => format!("<br>else: `{}`", older.key),
    });
    let older: String = older.collect();
    format!("| `{key}`{older} | {}: {} | {default} | {user} | {sentence} |\n", kind.name(), kind.allowed())
}
