"""What must hold on every door of every service: found in the applications, so that a new door is not forgotten."""
