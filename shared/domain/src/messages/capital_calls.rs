//! What capital-calls answers and emits: investors, commitments, closings, calls, lines, payments and refunds.

mod bank;
mod bank_details;
mod calls;
mod closings;
mod commitments;
mod defaults;
mod lines;
mod notices;
mod payments;
mod refunds;

pub use bank::*;
pub use bank_details::*;
pub use calls::*;
pub use closings::*;
pub use commitments::*;
pub use defaults::*;
pub use lines::*;
pub use notices::*;
pub use payments::*;
pub use refunds::*;
