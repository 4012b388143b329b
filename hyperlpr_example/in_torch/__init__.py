"""The plate recogniser in torch. Only this folder and in_keras import a framework."""
