//! Resident memory with a thousand partitions: while it is filled, after opening, and with every index looked at.

use super::{
    bed::Bed,
    reopen::{fill_and_kill, numbers},
};

const GIB: u64 = 1 << 30;
const PARTITIONS: u64 = 1000;
const RECORD_BYTES: u64 = 4 * 1024;

pub(crate) fn measure(bed: &Bed) {
    let bytes = bed.pick(GIB / 4, 4 * GIB);
    let folder = bed.empty();
    let filling = fill_and_kill(folder.path(), [bytes, PARTITIONS, RECORD_BYTES]);
    let mut open = Bed::child("open", folder.path(), &[bytes]);
    let [_, opened, read] = numbers(&mut open, "opened ");
    let mib = |kib: u64| kib as f64 / 1024.0;
    println!(
        "\nRSS with {PARTITIONS} partitions and {:.2} GiB of {RECORD_BYTES} B batches: {:.1} MiB while appending, {:.1} MiB \
         after opening, {:.1} MiB when every partition was read in its middle",
        bytes as f64 / GIB as f64,
        mib(filling),
        mib(opened),
        mib(read)
    );
}
