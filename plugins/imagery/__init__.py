"""What plugins of images share: safe decoding of images and XML, file names that stay in their folder, digit scenes."""
