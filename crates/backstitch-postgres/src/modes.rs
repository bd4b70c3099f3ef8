//! How durable is a cluster, and how is it stopped?

/// What a crash of the machine may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Nothing that was acknowledged. A server that runs as a throwaway is refused.
    #[default]
    Full,
    /// Everything, as `fsync` is off; a crash of Postgres alone still takes nothing. For tests that say so. A
    /// server that already runs durably is reused as it is.
    Throwaway,
}

/// How a server goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Clients are disconnected, what they had open is rolled back, and the next start is quick.
    Fast,
    /// At once, as in a crash; the next start recovers. Nothing acknowledged is lost.
    Immediate,
}
