//! What does a sweep have to know of what a workflow changes?

use std::fmt::Debug;

use backstitch::Workflow;

/// What the workflow changes, as a sweep needs to see it.
pub trait World<S, W: Workflow<S>> {
    /// What is seen of the world, apart from what differs from input to input.
    type Look: PartialEq + Debug;

    /// A new input: for something that does not exist yet, or of which nothing was hurt yet. What has to be there first can be made
    /// here, by a worker of its own on a queue of its own: the sweep's worker lives already, and is to have nothing to say.
    fn input(&mut self) -> impl Future<Output = W>;

    /// What stands outside of what this input asks for.
    fn look(&mut self, input: &W) -> impl Future<Output = Self::Look>;

    /// Makes room for the next one: it has ended, and was looked at.
    fn tidy(&mut self, input: &W) -> impl Future<Output = ()>;

    /// What can be wrong with the world, so that a step fails by itself: it says no, before or after it did what it was asked; it
    /// says that it never will; its answer is lost; it does everything twice. By names of its own; nothing unless said.
    fn faults(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether an attempt that meets this fault fails. One that no step should notice, as that everything is done twice, says
    /// no; that it was there is then for the world itself to see.
    fn lets_fail(&self, fault: &'static str) -> bool {
        let _ = fault;
        true
    }

    /// From now on this is wrong with it.
    fn hurt(&mut self, fault: &'static str) -> impl Future<Output = ()> {
        async move { panic!("a world that can have {fault:?} says what that is") }
    }

    /// Nothing is wrong with it any more, if anything still is.
    fn mend(&mut self, fault: &'static str) -> impl Future<Output = ()> {
        async move { panic!("a world that can have {fault:?} says how it is mended") }
    }
}
