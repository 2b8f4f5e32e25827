"""What must hold on every door of every service: enumerated from the applications, so that a new door is not forgotten."""
