//! Flink's `config.yaml`: YAML, nested or flat or both, to keys with dots.
//!
//! Read from the parser's events, so that each value keeps its text (`2f`, `1e1`) and each key its line. As with Flink,
//! a list becomes the text `[a, b]`, and of a key that is given both nested and flat the last value counts.

use std::collections::HashMap;
use std::rc::Rc;

use granit_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::{Config, before_value};
use crate::error::{Error, ErrorKind, Result};

/// Text of one document, counted as often as it is used: aliases of aliases grow without bound, and so do keys that come
/// before each of those below them.
const BYTES_MAX: usize = 1 << 20;

/// What is wrong in which line.
type Problem = (u64, String);

enum Content {
    Text(String),
    /// No value at all, which isn't the empty text.
    Nothing,
    List(Vec<Rc<Node>>),
    Map(Vec<(String, u64, Rc<Node>)>),
}

struct Node {
    content: Content,
    /// The bytes of text below it, and one more for each node.
    size: usize,
    /// The keys below it, once they are flat.
    keys: usize,
}

impl Config {
    /// Reads Flink's `config.yaml`.
    ///
    /// Refuses what Flink refuses: keys twice in one mapping, keys without a value, more than one document, unknown
    /// tags. Also merge keys, which Flink reads as keys called `<<`, so that nothing is merged. The error names the lines.
    pub fn from_yaml(text: &str) -> Result<Self> {
        let invalid = |problems: Vec<Problem>| {
            let texts = problems.iter().map(|(line, text)| format!("line {line}: {text}")).collect::<Vec<_>>();
            Error::new(ErrorKind::Invalid, texts.join("; "))
        };
        let mut reader = Reader { parser: Parser::new_from_str(text), anchors: HashMap::new(), problems: Vec::new() };
        let root = reader.document().map_err(|problem| invalid(vec![problem]))?;
        let mut config = Self::default();
        match root.as_deref().map(|node| &node.content) {
            // An empty file.
            None | Some(Content::Nothing) => {}
            Some(Content::Map(entries)) => flatten(entries, "", &mut config, &mut reader.problems),
            Some(_) => reader.problems.push((1, "isn't a mapping; allowed: key: value".into())),
        }
        if reader.problems.is_empty() { Ok(config) } else { Err(invalid(reader.problems)) }
    }
}

fn flatten(entries: &[(String, u64, Rc<Node>)], prefix: &str, config: &mut Config, problems: &mut Vec<Problem>) {
    for (name, line, node) in entries {
        let key = format!("{prefix}{name}");
        match &node.content {
            Content::Map(below) => flatten(below, &format!("{key}."), config, problems),
            Content::Nothing => {
                // `{key:value}`, without a blank, is a key.
                let key = if key.contains(':') { before_value(&key) } else { &key };
                problems.push((*line, format!("{key} has no value; allowed: a value, or '' for none")));
            }
            _ => config.insert(key, flow(node), Some(*line)),
        }
    }
}

/// In YAML's short form.
fn flow(node: &Node) -> String {
    match &node.content {
        Content::Text(text) => text.clone(),
        Content::Nothing => "null".into(),
        Content::List(items) => format!("[{}]", items.iter().map(|i| flow(i)).collect::<Vec<_>>().join(", ")),
        Content::Map(entries) => {
            let texts = entries.iter().map(|(key, _, value)| format!("{key}: {}", flow(value))).collect::<Vec<_>>();
            format!("{{{}}}", texts.join(", "))
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    anchors: HashMap<usize, Rc<Node>>,
    /// What is wrong with a document that can be read all the same.
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, u64), Problem> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, line(&span))),
            Some(Err(error)) => Err((error.marker().line() as u64, error.info())),
            None => Ok((Event::StreamEnd, 0)),
        }
    }

    /// The only document's root; `None` if there is no document.
    fn document(&mut self) -> Result<Option<Rc<Node>>, Problem> {
        let mut root = None;
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(root),
                (Event::DocumentStart(..), line) if root.is_some() => {
                    return Err((line, "another document begins; allowed: one".into()));
                }
                (Event::DocumentStart(..), _) => {
                    let (event, line) = self.next()?;
                    root = Some(self.node(event, line)?);
                }
                _ => {}
            }
        }
    }

    /// The parser bounds how deep nodes nest, and so how deep this calls itself.
    fn node(&mut self, event: Event<'a>, line: u64) -> Result<Rc<Node>, Problem> {
        // Not named: it may be a password that begins with an exclamation mark.
        if event.tag().is_some_and(|tag| !tag.is_yaml_core_schema()) {
            return Err((line, "has a tag ('!...'); allowed: none, or YAML's own; or quotes around the value".into()));
        }
        let anchor = event.anchor_id();
        let (content, size, keys) = match event {
            Event::Alias(id) => {
                let found = self.anchors.get(&id).cloned();
                return found.ok_or_else(|| (line, "an alias of what it is a part of".into()));
            }
            Event::Scalar(text, style, _, tag) => (scalar(&text, style, tag.as_deref()), 1 + text.len(), 1),
            Event::SequenceStart(..) => self.list()?,
            Event::MappingStart(..) => self.map()?,
            _ => return Err((line, "a value is missing".into())),
        };
        if size > BYTES_MAX {
            return Err((line, format!("stands for more than {BYTES_MAX} bytes")));
        }
        let node = Rc::new(Node { content, size, keys });
        if let Some(id) = anchor {
            self.anchors.insert(id, Rc::clone(&node));
        }
        Ok(node)
    }

    fn list(&mut self) -> Result<(Content, usize, usize), Problem> {
        let (mut items, mut size) = (Vec::new(), 1);
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok((Content::List(items), size, 1)),
                (event, line) => {
                    let node = self.node(event, line)?;
                    size += node.size;
                    items.push(node);
                }
            }
        }
    }

    fn map(&mut self) -> Result<(Content, usize, usize), Problem> {
        let (mut entries, mut size, mut keys) = (Vec::new(), 1, 0);
        let mut lines = HashMap::new();
        loop {
            let (key, line) = match self.next()? {
                (Event::MappingEnd, _) => return Ok((Content::Map(entries), size, keys)),
                (Event::Scalar(text, style, ..), line) => {
                    if text == "<<" && style == ScalarStyle::Plain {
                        let problem = "<< merges nothing, in Flink neither; allowed: the keys themselves";
                        self.problems.push((line, problem.into()));
                    }
                    (text.into_owned(), line)
                }
                (_, line) => return Err((line, "a key that isn't a text; allowed: a text".into())),
            };
            if let Some(before) = lines.insert(key.clone(), line) {
                self.problems.push((line, format!("{key} is given in line {before}, too; allowed: once")));
            }
            let (event, line_of_value) = self.next()?;
            let node = self.node(event, line_of_value)?;
            size += key.len() * node.keys.max(1) + node.size;
            keys += node.keys;
            entries.push((key, line, node));
        }
    }
}

fn line(span: &Span) -> u64 {
    span.start.line() as u64
}

/// Unquoted whole numbers and nothing are what YAML's core schema makes of them. Other texts stay as they are.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Content {
    let tagged = |name| tag.is_some_and(|tag| tag.is_yaml_core_schema_tag(name));
    if tagged("null") {
        return Content::Nothing;
    }
    if style != ScalarStyle::Plain || tagged("str") {
        return Content::Text(text.to_string());
    }
    let unsigned = |digits: &str, base| match digits.starts_with(['+', '-']) {
        true => None,
        false => i128::from_str_radix(digits, base).ok(),
    };
    let whole = match (text.strip_prefix("0x"), text.strip_prefix("0o")) {
        (Some(digits), _) => unsigned(digits, 16),
        (_, Some(digits)) => unsigned(digits, 8),
        _ => text.parse().ok(),
    };
    match (text, whole) {
        ("" | "~" | "null" | "Null" | "NULL", _) => Content::Nothing,
        (_, Some(number)) => Content::Text(number.to_string()),
        _ => Content::Text(text.to_string()),
    }
}
