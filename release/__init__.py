"""What a release is checked and made with: version against tag, licences, the list of what is inside. See docs/release.md."""
