"""What the plate recogniser is in torch; everything outside this folder and in_keras knows neither."""
