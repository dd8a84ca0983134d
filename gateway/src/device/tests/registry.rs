//! Names, labels and admission over the whole way.

use headwater_protocol::Refusal;

use super::{
    device::TestDevice,
    folder,
    gateway::{Gateway, options},
};
use crate::{
    broker::tests::open,
    config::{DeviceHeader, UnknownDevices},
    device::{Admission, ProfileEdit, ProfileError, connection::Ended, hub::HubOptions},
};

async fn with(folder: &std::path::Path, unknown: UnknownDevices) -> Gateway {
    let headers = vec![DeviceHeader::Name, DeviceHeader::Labels];
    Gateway::with_options(open(folder).await, HubOptions { unknown, headers, ..options() }).await
}

fn admission(admission: Admission) -> ProfileEdit {
    ProfileEdit { admission: Some(admission), ..ProfileEdit::default() }
}

#[tokio::test]
async fn an_unknown_device_waits_until_it_is_approved() {
    let folder = folder();
    let mut gateway = with(folder.path(), UnknownDevices::Hold).await;
    let mut device = TestDevice::default();
    device.sample(3);
    let mut line = gateway.connect();
    assert!(device.run(&mut line, |device| !device.refusals.is_empty()).await);
    assert_eq!(device.refusals, [Refusal::Forbidden]);
    let status = gateway.status("d-1").expect("shown");
    assert!(status.is_held && !status.connected);
    let edited = gateway.hub.edit("d-1", &admission(Admission::Accepted)).await;
    assert_eq!(edited.expect("stored").admission, Admission::Accepted);
    assert!(device.run(&mut line, TestDevice::is_empty).await);
    assert_eq!(gateway.readings(device.stream()).await.len(), 3);
    assert!(!gateway.status("d-1").expect("shown").is_held);
    gateway.kill().await;

    // What is said of it outlives the gateway, and data that it sent makes it known.
    let mut gateway = with(folder.path(), UnknownDevices::Refuse).await;
    gateway.hub.edit("d-1", &admission(Admission::Undecided)).await.expect("stored");
    device.reconnected();
    device.sample(2);
    let mut line = gateway.connect();
    assert!(device.run(&mut line, TestDevice::is_empty).await);
    let mut stranger = TestDevice::new("d-2");
    let mut line = gateway.connect();
    assert!(stranger.run(&mut line, |device| !device.refusals.is_empty()).await);
    assert!(gateway.status("d-2").is_none(), "nobody asked to see it");
}

#[tokio::test]
async fn a_refused_device_loses_its_connection_and_stays_outside() {
    let folder = folder();
    let mut gateway = with(folder.path(), UnknownDevices::Accept).await;
    let mut device = TestDevice::default();
    device.sample(3);
    let mut line = gateway.connect();
    assert!(device.run(&mut line, TestDevice::is_empty).await);
    gateway.hub.edit("d-1", &admission(Admission::Refused)).await.expect("stored");
    assert!(matches!(gateway.ended().await, Ended::TakenOver));
    gateway.kill().await;
    let mut gateway = with(folder.path(), UnknownDevices::Accept).await;
    let mut line = gateway.connect();
    device.reconnected();
    device.sample(1);
    assert!(device.run(&mut line, |device| !device.refusals.is_empty()).await);
    assert_eq!(gateway.status("d-1").expect("shown").profile.admission, Admission::Refused);
}

#[tokio::test]
async fn names_and_labels_go_into_records_if_that_is_wanted() {
    let folder = folder();
    let mut gateway = with(folder.path(), UnknownDevices::Accept).await;
    let labels = [("site".to_owned(), "roof".to_owned())].into();
    let edit = ProfileEdit { name: Some("wind, north".into()), labels, admission: None };
    gateway.hub.edit("d-1", &edit).await.expect("stored");
    let mut device = TestDevice::default();
    device.sample(2);
    let mut line = gateway.connect();
    assert!(device.run(&mut line, TestDevice::is_empty).await);
    for line in gateway.lines().await {
        assert_eq!(
            (&line.headers["name"][..], &line.headers["label.site"][..]),
            ("wind, north", "roof")
        );
    }
    let bad = ProfileEdit { name: Some("a\nb".into()), ..ProfileEdit::default() };
    assert_eq!(gateway.hub.edit("d-1", &bad).await, Err(ProfileError::Text("the name")));
    assert!(matches!(gateway.hub.edit("D 1", &edit).await, Err(ProfileError::Device(_))));
    assert_eq!(gateway.hub.status()[0].profile.name, "wind, north");
}
