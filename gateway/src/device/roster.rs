//! Who may come in, and what people call whom: all profiles, and the devices that wait at the door.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use headwater_protocol::DeviceId;

use super::{
    DeviceStatus,
    registry::{Admission, Profile, ProfileEdit, ProfileError},
};
use crate::{
    broker::{AppendRequest, Broker},
    config::{DeviceHeader, UnknownDevices},
};

/// Devices that are shown as waiting for approval; the one that was silent for longest makes room for another.
const MAX_HELD: usize = 256;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Roster {
    unknown: UnknownDevices,
    headers: Vec<DeviceHeader>,
    /// Most profiles.
    most: usize,
    /// Also of devices that were never here.
    profiles: Mutex<BTreeMap<String, Profile>>,
    held: Mutex<BTreeMap<String, DeviceStatus>>,
    /// One change at a time.
    editing: tokio::sync::Mutex<()>,
}

impl Roster {
    /// What the journal knows; the key of a fact that is not readable is the error.
    pub(super) fn load(
        broker: &Broker,
        unknown: UnknownDevices,
        headers: Vec<DeviceHeader>,
        most: usize,
    ) -> Result<Self, Bytes> {
        let profiles = Mutex::new(Profile::load(broker)?);
        let (held, editing) = (Mutex::default(), tokio::sync::Mutex::default());
        Ok(Self { unknown, headers, most, profiles, held, editing })
    }

    /// Whether a device may come in; one that may not yet is noted.
    pub(super) fn admits(
        &self,
        device: DeviceId,
        transport: &str,
        is_known: bool,
        now_ms: i64,
    ) -> bool {
        match self.profile(device).admission {
            Admission::Accepted => return true,
            Admission::Refused => return false,
            Admission::Undecided => {}
        }
        match self.unknown {
            _ if is_known => true,
            UnknownDevices::Accept => true,
            UnknownDevices::Refuse => false,
            UnknownDevices::Hold => {
                self.hold(device, transport, now_ms);
                false
            }
        }
    }

    fn hold(&self, device: DeviceId, transport: &str, now_ms: i64) {
        let id = device.as_str();
        let mut held = self.held();
        if !held.contains_key(id) {
            tracing::info!(
                device = id,
                transport,
                "a device waits: `headwater devices approve {id}` lets it in"
            );
            let longest_silent = held.iter().min_by_key(|(_, status)| status.last_seen_ms);
            let longest_silent = longest_silent.map(|(id, _)| id.clone());
            if held.len() >= MAX_HELD
                && let Some(other) = longest_silent
            {
                held.remove(&other);
            }
        }
        let status = held.entry(id.to_owned()).or_default();
        status.device = id.to_owned();
        status.transport = transport.to_owned();
        status.last_seen_ms = now_ms;
        status.is_held = true;
    }

    /// Headers that a device's records get.
    pub(super) fn headers(&self, device: DeviceId) -> Vec<(String, String)> {
        let mut headers = Vec::new();
        if self.headers.is_empty() {
            return headers;
        }
        let Profile { name, labels, .. } = self.profile(device);
        for header in &self.headers {
            match header {
                DeviceHeader::Name if name.is_empty() => {}
                DeviceHeader::Name => headers.push(("name".into(), name.clone())),
                DeviceHeader::Labels => headers.extend(
                    labels.iter().map(|(label, value)| (format!("label.{label}"), value.clone())),
                ),
            }
        }
        headers
    }

    /// Changes what is said of a device; durable when this returns.
    pub(super) async fn edit(
        &self,
        broker: &Broker,
        id: &str,
        edit: &ProfileEdit,
    ) -> Result<Profile, ProfileError> {
        let device = DeviceId::new(id).ok_or_else(|| ProfileError::Device(id.to_owned()))?;
        let _one = self.editing.lock().await;
        let next = self.profile(device).edited(edit)?;
        let is_new = !self.profiles().contains_key(id);
        if is_new && self.profiles().len() >= self.most {
            return Err(ProfileError::Devices(self.most));
        }
        let request = AppendRequest { batches: Vec::new(), facts: vec![next.fact(device)] };
        let storage = |why: String| ProfileError::Storage(why);
        let commit = broker.append_kept(request).map_err(|error| storage(error.to_string()))?;
        commit.durable().await.map_err(|error| storage(error.to_string()))?;
        if next == Profile::default() {
            self.profiles().remove(id);
        } else {
            self.profiles().insert(id.to_owned(), next.clone());
        }
        if next.admission != Admission::Undecided {
            self.held().remove(id);
        }
        Ok(next)
    }

    /// Adds those that wait, and what is said of each, to devices by id.
    pub(super) fn show(&self, devices: &mut BTreeMap<String, DeviceStatus>) {
        for (id, status) in self.held().iter() {
            devices.entry(id.clone()).or_insert_with(|| status.clone());
        }
        for (id, profile) in self.profiles().iter() {
            let status = devices.entry(id.clone()).or_default();
            status.device.clone_from(id);
            status.profile = profile.clone();
        }
    }

    fn profile(&self, device: DeviceId) -> Profile {
        self.profiles().get(device.as_str()).cloned().unwrap_or_default()
    }

    // Every change under these locks is a whole one: a panic elsewhere leaves nothing half done.
    fn profiles(&self) -> MutexGuard<'_, BTreeMap<String, Profile>> {
        self.profiles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<String, DeviceStatus>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::tests::open;

    #[tokio::test]
    async fn who_waits_is_bounded_and_the_silent_make_room() {
        let folder = tempfile::tempdir().expect("a folder");
        let broker = open(folder.path()).await;
        let roster = Roster::load(&broker, UnknownDevices::Hold, Vec::new(), 2).expect("readable");
        for number in 0..=MAX_HELD {
            let device = DeviceId::new(&format!("d-{number}")).expect("legal");
            assert!(!roster.admits(device, "test", false, number as i64));
        }
        let mut shown = BTreeMap::new();
        roster.show(&mut shown);
        assert_eq!(shown.len(), MAX_HELD);
        assert!(!shown.contains_key("d-0") && shown.contains_key("d-256"));
    }

    #[tokio::test]
    async fn profiles_are_bounded() {
        let folder = tempfile::tempdir().expect("a folder");
        let broker = open(folder.path()).await;
        let roster =
            Roster::load(&broker, UnknownDevices::Accept, Vec::new(), 2).expect("readable");
        let edit = ProfileEdit { name: Some("x".into()), ..ProfileEdit::default() };
        for id in ["a", "b", "a"] {
            roster.edit(&broker, id, &edit).await.expect("stored");
        }
        assert_eq!(roster.edit(&broker, "c", &edit).await, Err(ProfileError::Devices(2)));
    }
}
