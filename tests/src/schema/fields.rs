//! What a message consists of, as Kafka's schema files say it.

use std::sync::Arc;

use serde_json::Value;

/// One request or answer.
#[derive(Debug)]
pub struct Message {
    /// As in the file, with `Request` or `Response` at its end.
    pub name: String,
    /// Number of its API.
    pub api_key: i16,
    /// Versions with compact encoding and tagged fields.
    flexible: Versions,
    /// In the order of the wire.
    pub fields: Arc<Vec<Field>>,
}

/// A field of a message or of a structure in it.
#[derive(Debug)]
pub struct Field {
    /// As in the file.
    pub name: String,
    /// Its type.
    pub kind: Kind,
    versions: Versions,
    nullable: Versions,
    tagged: Versions,
    /// Where it is tagged.
    pub(super) tag: Option<u32>,
    /// What stands for a value that nobody gives.
    pub default: Value,
}

/// A type of the protocol.
#[derive(Clone, Debug)]
pub enum Kind {
    /// One byte.
    Bool,
    /// Signed, of so many bytes.
    Int(usize),
    /// Two bytes.
    Unsigned16,
    /// Eight bytes.
    Float,
    /// 16 bytes.
    Uuid,
    /// Text.
    Text,
    /// Bytes without a meaning here.
    Bytes,
    /// Record batches.
    Records,
    /// Any number of them.
    Array(Box<Self>),
    /// Fields.
    Struct(Arc<Vec<Field>>),
}

impl Message {
    /// A schema file; `None` for what is neither request nor answer.
    ///
    /// # Panics
    /// If it is not what a schema looks like.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let json: Value = serde_json::from_str(&lines.collect::<Vec<_>>().join("\n"))
            .expect("a schema is JSON with comments");
        if !["request", "response"].contains(&json["type"].as_str()?) {
            return None;
        }
        let shared = &json["commonStructs"];
        Some(Self {
            name: string(&json["name"]),
            api_key: json["apiKey"].as_i64()? as i16,
            flexible: Versions::parse(&json["flexibleVersions"]),
            fields: Arc::new(fields(&json["fields"], shared)),
        })
    }

    /// Whether the version has compact encoding and tagged fields.
    #[must_use]
    pub fn is_flexible(&self, version: i16) -> bool {
        self.flexible.has(version)
    }
}

impl Field {
    /// Whether the version has it.
    #[must_use]
    pub fn is_in(&self, version: i16) -> bool {
        self.versions.has(version)
    }

    /// Whether it may be missing in that version.
    #[must_use]
    pub fn is_nullable(&self, version: i16) -> bool {
        self.nullable.has(version)
    }

    pub(super) fn is_tagged(&self, version: i16) -> bool {
        self.tagged.has(version)
    }
}

fn fields(json: &Value, shared: &Value) -> Vec<Field> {
    let fields = json.as_array().into_iter().flatten();
    fields
        .map(|field| {
            let kind = kind(&string(&field["type"]), &field["fields"], shared);
            Field {
                name: string(&field["name"]),
                default: default(&field["default"], &kind),
                kind,
                versions: Versions::parse(&field["versions"]),
                nullable: Versions::parse(&field["nullableVersions"]),
                tagged: Versions::parse(&field["taggedVersions"]),
                tag: field["tag"].as_u64().map(|tag| tag as u32),
            }
        })
        .collect()
}

fn kind(name: &str, inner: &Value, shared: &Value) -> Kind {
    match name {
        "bool" => Kind::Bool,
        "int8" => Kind::Int(1),
        "int16" => Kind::Int(2),
        "int32" => Kind::Int(4),
        "int64" => Kind::Int(8),
        "uint16" => Kind::Unsigned16,
        "float64" => Kind::Float,
        "uuid" => Kind::Uuid,
        "string" => Kind::Text,
        "bytes" => Kind::Bytes,
        "records" => Kind::Records,
        _ => match name.strip_prefix("[]") {
            Some(element) => Kind::Array(Box::new(kind(element, inner, shared))),
            None if inner.is_array() => Kind::Struct(Arc::new(fields(inner, shared))),
            None => {
                let structures = shared.as_array().into_iter().flatten();
                let known = structures.into_iter().find(|it| it["name"] == name);
                let known = known.unwrap_or_else(|| panic!("what is {name}?"));
                Kind::Struct(Arc::new(fields(&known["fields"], shared)))
            }
        },
    }
}

fn default(json: &Value, kind: &Kind) -> Value {
    if json.as_str() == Some("null") {
        return Value::Null;
    }
    let text = json.as_str().map_or_else(|| json.to_string(), |it| it.trim().to_owned());
    match kind {
        Kind::Bool => Value::Bool(text == "true"),
        Kind::Int(_) | Kind::Unsigned16 => match text.strip_prefix("0x") {
            Some(digits) => i64::from_str_radix(digits, 16).expect("a number").into(),
            None => text.parse::<i64>().unwrap_or(0).into(),
        },
        Kind::Float => 0.0.into(),
        Kind::Uuid => "0".repeat(32).into(),
        Kind::Text | Kind::Bytes => json.as_str().unwrap_or("").into(),
        Kind::Records | Kind::Array(_) => Value::Array(Vec::new()),
        Kind::Struct(_) => Value::Object(serde_json::Map::new()),
    }
}

fn string(json: &Value) -> String {
    json.as_str().expect("a text").to_owned()
}

/// A range of versions, or none.
#[derive(Clone, Copy, Debug)]
struct Versions(Option<(i16, i16)>);

impl Versions {
    fn parse(json: &Value) -> Self {
        let text = json.as_str().unwrap_or("none");
        let number = |text: &str| text.parse::<i16>().expect("a version");
        Self(match (text, text.strip_suffix('+'), text.split_once('-')) {
            ("none", ..) => None,
            (_, Some(from), _) => Some((number(from), i16::MAX)),
            (_, _, Some((from, to))) => Some((number(from), number(to))),
            _ => Some((number(text), number(text))),
        })
    }

    fn has(self, version: i16) -> bool {
        self.0.is_some_and(|(from, to)| (from..=to).contains(&version))
    }
}
