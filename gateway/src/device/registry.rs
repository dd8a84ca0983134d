//! What people said of one device: its name, its labels, and whether it may come in.
//!
//! Bytes of the fact in [`space::DEVICE_PROFILE`], key = device id: version u8 = 1; admission u8 (0 = not decided, 1 =
//! accepted, 2 = refused); name {len u8, UTF-8}; labels u8, then {name {len u8, UTF-8}, value {len u8, UTF-8}}.

use std::collections::BTreeMap;

use bytes::Bytes;
use headwater_protocol::DeviceId;

use crate::{
    broker::{Broker, space},
    journal::Fact,
};

const VERSION: u8 = 1;
/// Longest name and longest label value, bytes.
const TEXT_MAX: usize = 128;
/// Longest name of a label, bytes.
const LABEL_MAX: usize = 64;
/// Labels of a device.
const LABELS_MAX: usize = 16;

/// Whether a device may come in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Admission {
    /// Nobody said anything: the policy for unknown devices decides, until it has sent data.
    #[default]
    Undecided,
    /// It may.
    Accepted,
    /// It may not.
    Refused,
}

impl Admission {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Undecided => "undecided",
            Self::Accepted => "accepted",
            Self::Refused => "refused",
        }
    }
}

/// What is said of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Whether it may come in.
    pub admission: Admission,
    /// What people call it; empty if nothing.
    pub name: String,
    /// More about it.
    pub labels: BTreeMap<String, String>,
}

/// A change of a [`Profile`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProfileEdit {
    /// Another admission.
    pub admission: Option<Admission>,
    /// Another name; empty takes it away.
    pub name: Option<String>,
    /// Labels to set; an empty value takes one away.
    pub labels: BTreeMap<String, String>,
}

/// Why a profile cannot be so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// Name or value of a label is too long.
    #[error("{0} is longer than {TEXT_MAX} bytes, or has control characters")]
    Text(&'static str),
    /// A label's name.
    #[error("label {0:?}: names of labels have 1 to {LABEL_MAX} of [A-Za-z0-9_.-]")]
    Label(String),
    /// Too many.
    #[error("a device has at most {LABELS_MAX} labels")]
    Labels,
    /// As many devices as may be known have one.
    #[error("{0} devices have a profile, and no more may: take what is said of others away")]
    Devices(usize),
    /// It is no device id.
    #[error("{0:?} is no device id: 1 to 32 of [a-z0-9._-]")]
    Device(String),
    /// Storage takes nothing now.
    #[error("not stored: {0}")]
    Storage(String),
}

impl Profile {
    /// As an edit makes it.
    ///
    /// # Errors
    /// [`ProfileError`], and nothing is changed.
    pub fn edited(&self, edit: &ProfileEdit) -> Result<Self, ProfileError> {
        let mut next = self.clone();
        if let Some(admission) = edit.admission {
            next.admission = admission;
        }
        if let Some(name) = &edit.name {
            check_text("the name", name)?;
            next.name.clone_from(name);
        }
        for (label, value) in &edit.labels {
            check_label(label)?;
            check_text("a label's value", value)?;
            if value.is_empty() {
                next.labels.remove(label);
            } else {
                next.labels.insert(label.clone(), value.clone());
            }
        }
        if next.labels.len() > LABELS_MAX {
            return Err(ProfileError::Labels);
        }
        Ok(next)
    }

    /// Its fact; none at all if it says nothing.
    pub(super) fn fact(&self, device: DeviceId) -> Fact {
        let key = Bytes::copy_from_slice(device.as_bytes());
        let value = (*self != Self::default()).then(|| self.encode().into());
        Fact { space: space::DEVICE_PROFILE, key, value }
    }

    fn encode(&self) -> Vec<u8> {
        let admission = match self.admission {
            Admission::Undecided => 0,
            Admission::Accepted => 1,
            Admission::Refused => 2,
        };
        let mut out = vec![VERSION, admission];
        write_text(&mut out, &self.name);
        out.push(self.labels.len() as u8);
        for (label, value) in &self.labels {
            write_text(&mut out, label);
            write_text(&mut out, value);
        }
        out
    }

    /// Reads a value; `None` if it is none of ours.
    pub(super) fn decode(value: &[u8]) -> Option<Self> {
        let [VERSION, admission, rest @ ..] = value else { return None };
        let mut rest = rest;
        let admission = match admission {
            0 => Admission::Undecided,
            1 => Admission::Accepted,
            2 => Admission::Refused,
            _ => return None,
        };
        let name = read_text(&mut rest)?;
        let (count, tail) = rest.split_first()?;
        rest = tail;
        let labels = (0..*count)
            .map(|_| Some((read_text(&mut rest)?, read_text(&mut rest)?)))
            .collect::<Option<_>>()?;
        rest.is_empty().then_some(Self { admission, name, labels })
    }

    /// All of them; the key of a fact that is not readable is the error.
    pub(super) fn load(broker: &Broker) -> Result<BTreeMap<String, Self>, Bytes> {
        let facts = broker.facts(space::DEVICE_PROFILE).into_iter();
        facts
            .map(|(key, value)| {
                let device = DeviceId::from_bytes(&key).map(|device| device.to_string());
                device.zip(Self::decode(&value)).ok_or(key)
            })
            .collect()
    }
}

fn check_text(what: &'static str, text: &str) -> Result<(), ProfileError> {
    let is_fine = text.len() <= TEXT_MAX && !text.chars().any(char::is_control);
    if is_fine { Ok(()) } else { Err(ProfileError::Text(what)) }
}

fn check_label(label: &str) -> Result<(), ProfileError> {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let is_fine = (1..=LABEL_MAX).contains(&label.len()) && label.bytes().all(is_letter);
    if is_fine { Ok(()) } else { Err(ProfileError::Label(label.to_owned())) }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
}

fn read_text(rest: &mut &[u8]) -> Option<String> {
    let (len, tail) = rest.split_first()?;
    let (text, tail) = tail.split_at_checked(usize::from(*len))?;
    *rest = tail;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(name: Option<&str>, labels: &[(&str, &str)]) -> ProfileEdit {
        let labels = labels.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        ProfileEdit { name: name.map(Into::into), labels: labels.collect(), ..Default::default() }
    }

    #[test]
    fn edits_add_up_and_what_is_empty_goes() {
        let first =
            Profile::default().edited(&edit(Some("boiler"), &[("site", "a"), ("room", "2")]));
        let first = first.expect("legal");
        let next = first.edited(&edit(None, &[("site", "b"), ("room", "")])).expect("legal");
        assert_eq!(
            (&next.name[..], next.labels.len(), &next.labels["site"][..]),
            ("boiler", 1, "b")
        );
        let none = next.edited(&edit(Some(""), &[("site", "")])).expect("legal");
        assert_eq!(none, Profile::default());
        assert_eq!(none.fact(DeviceId::new("d").expect("legal")).value, None);
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "x".repeat(129);
        let many: Vec<_> = (0..17).map(|number| format!("l{number}")).collect();
        let many: Vec<_> = many.iter().map(|name| (&name[..], "1")).collect();
        for bad in [
            edit(Some(&long), &[]),
            edit(Some("a\nb"), &[]),
            edit(None, &[("", "a")]),
            edit(None, &[("a b", "a")]),
            edit(None, &[("a", &long)]),
            edit(None, &many),
        ] {
            assert!(Profile::default().edited(&bad).is_err(), "{bad:?}");
        }
        assert!(Profile::default().edited(&edit(Some(&"x".repeat(128)), &many[..16])).is_ok());
    }

    #[test]
    fn a_fact_is_read_as_it_was_written_or_not_at_all() {
        let mut profile = Profile { admission: Admission::Refused, ..Profile::default() };
        profile.name = "öl".into();
        profile.labels.insert("site".into(), "a".into());
        let bytes = profile.encode();
        assert_eq!(bytes, b"\x01\x02\x03\xc3\xb6l\x01\x04site\x01a");
        assert_eq!(Profile::decode(&bytes), Some(profile));
        for cut in 0..bytes.len() {
            assert_eq!(Profile::decode(&bytes[..cut]), None);
        }
        assert_eq!(Profile::decode(&[&bytes[..], &[0]].concat()), None);
        assert_eq!(Profile::decode(b"\x01\x03\x00\x00"), None);
        assert_eq!(Profile::decode(b"\x02\x00\x00\x00"), None);
    }
}
