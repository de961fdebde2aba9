"""What should exist: one pure builder per child, spec and platform in, manifest out."""
