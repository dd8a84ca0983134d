//! What happened in a run: one in which a fault never happened proves nothing about it.

macro_rules! report {
    ($($name:ident),*) => {
        /// How often.
        #[derive(Clone, Debug, Default)]
        pub(crate) struct Report {
            $(pub(crate) $name: u64,)*
        }

        impl Report {
            pub(crate) fn counts(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),*]
            }

            pub(crate) fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

report!(
    readings,
    gap_readings,
    overflows,
    lost,
    losses,
    replaced,
    undetected,
    sessions,
    refusals,
    retransmitted,
    frame_errors,
    delays,
    noises,
    cuts,
    resets,
    power_cuts,
    erasures,
    swaps,
    renamings,
    images,
    rollbacks,
    clones,
    crashes,
    restores,
    forgotten,
    reconnects,
    restarts,
    windows,
    stalls,
    line_errors,
    clock_samples,
    descriptions,
    asleep,
    lines,
    commands,
    results
);
