//! Messages to bytes and back, by their schemas.

use serde_json::{Map, Value, json};

use super::{
    batches,
    fields::{Field, Kind},
};

/// Why bytes or JSON are not what the schema says.
pub(super) type Fault = String;

/// Longer arrays are in no answer that a test asks for.
const MAX_ELEMENTS: usize = 1_000_000;

/// Which encoding a version has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialect {
    pub(super) version: i16,
    pub(super) flexible: bool,
}

impl Dialect {
    /// Writes the fields that the version has; those that nobody gives have their defaults.
    pub(super) fn write_fields(
        self,
        fields: &[Field],
        json: &Value,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let given = json.as_object().ok_or_else(|| format!("{json} is no structure"))?;
        if let Some(name) = given.keys().find(|name| fields.iter().all(|it| it.name != **name)) {
            return Err(format!("there is no field {name}"));
        }
        let mut tagged = Vec::new();
        for field in fields.iter().filter(|field| field.is_in(self.version)) {
            let value = given.get(&field.name).unwrap_or(&field.default);
            if !field.is_tagged(self.version) {
                self.write_field(field, value, out)?;
            } else if given.contains_key(&field.name) && *value != field.default {
                let mut bytes = Vec::new();
                self.write_field(field, value, &mut bytes)?;
                tagged.push((field.tag.ok_or("a tag without a number")?, bytes));
            }
        }
        if self.flexible {
            tagged.sort();
            write_unsigned(out, tagged.len());
            for (tag, bytes) in tagged {
                write_unsigned(out, tag as usize);
                write_unsigned(out, bytes.len());
                out.extend_from_slice(&bytes);
            }
        }
        Ok(())
    }

    fn write_field(self, field: &Field, value: &Value, out: &mut Vec<u8>) -> Result<(), Fault> {
        let nullable = field.is_nullable(self.version);
        // A text that may be missing in other versions only.
        let empty = Value::String(String::new());
        let value = match value {
            Value::Null if !nullable && matches!(field.kind, Kind::Text) => &empty,
            Value::Null if !nullable => return Err(format!("{} cannot be null", field.name)),
            value => value,
        };
        let written = self.write(&field.kind, value, nullable, out);
        written.map_err(|fault| format!("{}: {fault}", field.name))
    }

    fn write(
        self,
        kind: &Kind,
        value: &Value,
        nullable: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let unfit = || format!("{value} does not fit {kind:?}");
        match kind {
            Kind::Bool => out.push(u8::from(value.as_bool().ok_or_else(unfit)?)),
            Kind::Int(bytes) => {
                let number = value.as_i64().ok_or_else(unfit)?;
                out.extend_from_slice(&number.to_be_bytes()[8 - bytes..]);
            }
            Kind::Unsigned16 => {
                let number = value.as_u64().ok_or_else(unfit)? as u16;
                out.extend_from_slice(&number.to_be_bytes());
            }
            Kind::Float => {
                out.extend_from_slice(&value.as_f64().ok_or_else(unfit)?.to_be_bytes());
            }
            Kind::Uuid => out.extend_from_slice(&from_hex(value.as_str().ok_or_else(unfit)?)?),
            Kind::Text => {
                let text = value.as_str().map(str::as_bytes);
                self.write_length(text.map(<[u8]>::len), 2, out);
                out.extend_from_slice(text.unwrap_or_default());
            }
            Kind::Bytes | Kind::Records => {
                let bytes = match value {
                    Value::Null => None,
                    Value::String(hex) => Some(from_hex(hex)?),
                    batches => Some(batches::encode(batches)?),
                };
                self.write_length(bytes.as_ref().map(Vec::len), 4, out);
                out.extend_from_slice(&bytes.unwrap_or_default());
            }
            Kind::Array(element) => {
                let elements = value.as_array();
                if elements.is_none() && !value.is_null() {
                    return Err(unfit());
                }
                self.write_length(elements.map(Vec::len), 4, out);
                for value in elements.into_iter().flatten() {
                    self.write(element, value, false, out)?;
                }
            }
            Kind::Struct(fields) => {
                if nullable {
                    out.push(if value.is_null() { 0xff } else { 1 });
                }
                if !value.is_null() {
                    self.write_fields(fields, value, out)?;
                }
            }
        }
        Ok(())
    }

    /// A length that may be missing: one more than it in the compact encoding, else -1 for none.
    fn write_length(self, length: Option<usize>, bytes: usize, out: &mut Vec<u8>) {
        if self.flexible {
            write_unsigned(out, length.map_or(0, |length| length + 1));
        } else {
            let length = length.map_or(-1, |length| length as i64);
            out.extend_from_slice(&length.to_be_bytes()[8 - bytes..]);
        }
    }

    /// Reads the fields that the version has. Tags that the schema does not have are told by their numbers.
    pub(super) fn read_fields(self, fields: &[Field], bytes: &mut &[u8]) -> Result<Value, Fault> {
        let mut found = Map::new();
        for field in fields.iter().filter(|field| field.is_in(self.version)) {
            let value = match field.is_tagged(self.version) {
                true => field.default.clone(),
                false => self.read_field(field, bytes)?,
            };
            found.insert(field.name.clone(), value);
        }
        if self.flexible {
            for _ in 0..read_unsigned(bytes)? {
                let tag = read_unsigned(bytes)? as u32;
                let length = read_unsigned(bytes)?;
                let mut value = take(bytes, length)?;
                let is_it =
                    |field: &&Field| field.is_tagged(self.version) && field.tag == Some(tag);
                match fields.iter().find(is_it) {
                    Some(field) => {
                        found.insert(field.name.clone(), self.read_field(field, &mut value)?);
                    }
                    None => {
                        found.insert(format!("tag {tag}"), hex(value).into());
                    }
                }
            }
        }
        Ok(Value::Object(found))
    }

    fn read_field(self, field: &Field, bytes: &mut &[u8]) -> Result<Value, Fault> {
        let nullable = field.is_nullable(self.version);
        let read = self.read(&field.kind, nullable, bytes);
        read.map_err(|fault| format!("{}: {fault}", field.name))
    }

    fn read(self, kind: &Kind, nullable: bool, bytes: &mut &[u8]) -> Result<Value, Fault> {
        Ok(match kind {
            Kind::Bool => (take(bytes, 1)? != [0]).into(),
            Kind::Int(length) => read_signed(bytes, *length)?.into(),
            Kind::Unsigned16 => (read_signed(bytes, 2)? as u16).into(),
            Kind::Float => f64::from_bits(read_signed(bytes, 8)?.cast_unsigned()).into(),
            Kind::Uuid => hex(take(bytes, 16)?).into(),
            Kind::Text => match self.read_length(2, bytes)? {
                None => Value::Null,
                Some(length) => String::from_utf8_lossy(take(bytes, length)?).into_owned().into(),
            },
            Kind::Bytes => match self.read_length(4, bytes)? {
                None => Value::Null,
                Some(length) => hex(take(bytes, length)?).into(),
            },
            Kind::Records => match self.read_length(4, bytes)? {
                None => Value::Null,
                Some(length) => batches::decode(take(bytes, length)?),
            },
            Kind::Array(element) => match self.read_length(4, bytes)? {
                None => Value::Null,
                Some(count) if count > MAX_ELEMENTS => return Err(format!("{count} elements")),
                Some(count) => (0..count)
                    .map(|_| self.read(element, false, bytes))
                    .collect::<Result<_, _>>()?,
            },
            Kind::Struct(_) if nullable && read_signed(bytes, 1)? < 0 => Value::Null,
            Kind::Struct(fields) => self.read_fields(fields, bytes)?,
        })
    }

    fn read_length(self, length_bytes: usize, bytes: &mut &[u8]) -> Result<Option<usize>, Fault> {
        Ok(match self.flexible {
            true => read_unsigned(bytes)?.checked_sub(1),
            false => usize::try_from(read_signed(bytes, length_bytes)?).ok(),
        })
    }
}

/// What is left behind a message is part of what it is.
pub(super) fn with_rest(mut message: Value, rest: &[u8]) -> Value {
    if !rest.is_empty() {
        message["bytes behind the message"] = json!(hex(rest));
    }
    message
}

pub(super) fn write_unsigned(out: &mut Vec<u8>, value: usize) {
    let mut rest = value;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

pub(super) fn read_unsigned(bytes: &mut &[u8]) -> Result<usize, Fault> {
    let mut value = 0;
    for shift in (0..35).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err("a number without an end".to_owned())
}

pub(super) fn read_signed(bytes: &mut &[u8], length: usize) -> Result<i64, Fault> {
    let taken = take(bytes, length)?;
    let sign = if taken[0] & 0x80 == 0 { 0 } else { -1 };
    Ok(taken.iter().fold(sign, |value, byte| (value << 8) | i64::from(*byte)))
}

pub(super) fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], Fault> {
    let split = bytes.split_at_checked(count);
    let (taken, rest) = split.ok_or_else(|| format!("{count} bytes of {}", bytes.len()))?;
    *bytes = rest;
    Ok(taken)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn from_hex(text: &str) -> Result<Vec<u8>, Fault> {
    let digits = |at: usize| text.get(at..at + 2).and_then(|it| u8::from_str_radix(it, 16).ok());
    let bytes = (0..text.len()).step_by(2).map(digits).collect::<Option<Vec<u8>>>();
    bytes.ok_or_else(|| format!("{text:?} is not hexadecimal"))
}
